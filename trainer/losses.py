"""Multi-label losses for long-tailed labels, as pure functions of logits and labels.

Every loss here is one core, `focal`, given three optional ingredients: a weight for each element
(`rebalanced_weights`), a shift of each label's logit (`logit_shift`), and a factor that steepens
the negative branch (`lambda_`). `make_loss` picks the ingredients by name, checks the batch, and
takes the mean. A new loss is one builder function and one line in `LOSSES`.

Sources:
    Lin, Goyal, Girshick, He, Dollar (2017), Focal Loss for Dense Object Detection, eq. 4.
    Wu, Huang, Liu, Wang, Lin (2020), Distribution-Balanced Loss for Multi-Label Classification in
    Long-Tailed Datasets, ECCV, sections 3.1 (weights) and 3.2 (negative-tolerant regularisation).
    Huang, Giledereli, Koksal, Ozgur, Ozkirimli (2021), Balancing Methods for Multi-label Text
    Classification with Long-Tailed Class Distribution, EMNLP: the focal form and its defaults.
"""

import inspect
import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

IntArray: TypeAlias = npt.NDArray[np.int64]
LossFunction: TypeAlias = Callable[[Tensor, Tensor], Tensor]

BIAS_CLAMP_ROWS = 0.5
"""Rows by which a label that is always or never positive is moved off p = 0 or p = 1."""


def focal(
    logits: Tensor,
    labels: Tensor,
    *,
    gamma: float = 0.0,
    weights: Tensor | None = None,
    shift: Tensor | None = None,
    lambda_: float = 1.0,
) -> Tensor:
    """Focal loss of each element; with the defaults it is binary cross-entropy.

    With z a logit, v its label's shift and w the element's weight:

        positive: -w (1 - q)^gamma log q,                q = sigmoid(z - v)
        negative: -(w / lambda) q^gamma log(1 - q),      q = sigmoid(lambda (z - v))

    logits: (rows, labels) float.
    labels: (rows, labels) bool, True where the label applies.
    gamma: focusing exponent, >= 0; 0 switches focusing off.
    weights: (rows, labels) float, or anything that broadcasts to it; None means 1 everywhere.
    shift: (labels,) float, the v above; None means 0.
    lambda_: steepness of the negative branch, > 0.
    Returns (rows, labels) in the dtype of `logits`. Values and gradients are finite for any finite
    logit whose product with `lambda_` is finite, because everything is computed from log sigmoids.

    Source: Lin et al. 2017, eq. 4; Wu et al. 2020, section 3.2; Huang et al. 2021, section 2.
    """
    shifted = logits if shift is None else logits - shift  # (rows, labels)
    margin = torch.where(labels, shifted, -lambda_ * shifted)  # > 0 where the side is right
    # A power of sigmoid(-margin) has an infinite slope at 0 when gamma < 1; this form has not.
    modulation = torch.exp(gamma * logsigmoid(-margin))
    losses = -modulation * logsigmoid(margin)
    if lambda_ != 1.0:
        losses = torch.where(labels, losses, losses / lambda_)
    return losses if weights is None else weights * losses


def rebalanced_weights(
    labels: Tensor, positives: Tensor, *, alpha: float, beta: float, mu: float
) -> Tensor:
    """Weight each element by its label's share of the row under class-balanced sampling.

        r_i   = (1 / n_i) / sum over the row's positive labels j of (1 / n_j)
        r_hat = alpha + sigmoid(beta (r - mu))

    labels: (rows, labels) bool.
    positives: (labels,) float training counts n; a count of 0 is taken as 1, the rarest a label
        that does turn up can be.
    Returns (rows, labels) in the dtype of `positives`, each in [alpha, alpha + 1].

    A row without any positive label has an empty sum, and the formula read literally would give
    its every element the highest weight, alpha + 1. Here such a row has r = mu, thus the middle
    weight alpha + 1/2 on every label, whatever beta and mu are. The lowest weight was the other
    candidate: but in a labelled row the negatives lie on both sides of the middle (those of rarer
    labels near alpha + 1, those of commoner ones near alpha), so the middle treats an article
    about nothing like an average one, and the lowest would nearly drop it from training.

    Source: Wu et al. 2020, section 3.1 (re-balanced weighting); Huang et al. 2021, section 2.
    """
    inverse = 1.0 / positives.clamp(min=1.0)  # (labels,)
    # Not a matrix product: autocast would take that to half precision.
    row_total = torch.where(labels, inverse, 0.0).sum(dim=-1, keepdim=True)  # (rows, 1)
    labelled = labels.any(dim=-1, keepdim=True)  # (rows, 1)
    share = torch.where(labelled, inverse / torch.where(labelled, row_total, 1.0), mu)
    return alpha + torch.sigmoid(beta * (share - mu))


def logit_shift(positives: Tensor, rows: int, *, kappa: float) -> Tensor:
    """Shift of each label's logit that allows for how often the label is positive.

        v_i = -kappa b_i,    b_i = -log(1 / p_i - 1),    p_i = n_i / rows

    positives: (labels,) float training counts n.
    rows: number of training rows.
    Returns (labels,): positive for labels below p = 1/2, negative above. p is kept within half a
    row of 0 and 1, so that a label which is never or always positive has a finite shift.

    Source: Wu et al. 2020, section 3.2 (negative-tolerant regularisation).
    """
    edge = BIAS_CLAMP_ROWS / rows
    return -kappa * torch.logit((positives / rows).clamp(min=edge, max=1.0 - edge))


def make_loss(
    name: str, *, positives: Tensor | IntArray, rows: int, **parameters: float
) -> LossFunction:
    """Build the loss called `name` for one task's training counts.

    name: a key of `LOSSES`.
        `bce`: mean binary cross-entropy; no parameters.
        `db`: distribution-balanced loss, `focal` with both `rebalanced_weights` and `logit_shift`;
        parameters gamma 2, alpha 0.1, beta 10, mu 0.9, kappa 0.05, lambda_ 2.
    positives: (labels,) int64, how many training rows have each label.
    rows: number of training rows.
    parameters: numbers that replace the defaults above.

    The returned function takes `logits` (rows, labels) float and `labels` (rows, labels) of 0 and
    1 in any dtype, on one device, and returns the scalar mean over all elements. It computes in
    float32, or in float64 if the logits are, and changes neither argument. It raises ValueError
    for shapes that differ from each other or from `positives`, for a batch without elements, and
    for labels other than 0 and 1.

    Raises ValueError for an unknown name or parameter, a parameter out of range, and counts that
    are not whole numbers from 0 to `rows`.
    """
    if name not in LOSSES:
        raise ValueError(f"unknown loss {name!r}; expected one of: {', '.join(sorted(LOSSES))}")
    builder = LOSSES[name]
    _check_parameters(name, builder, parameters)
    counts = _checked_counts(positives, rows)  # (labels,) float64
    elementwise = builder(counts, rows, **parameters)
    label_count = counts.shape[0]

    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        _check_shapes(logits, labels, label_count)
        wide = logits if logits.dtype == torch.float64 else logits.to(torch.float32)
        return elementwise(wide, _as_mask(labels)).mean()

    return loss


def _binary_cross_entropy(positives: Tensor, rows: int) -> LossFunction:
    """Build -log q for positives and -log(1 - q) for negatives, q = sigmoid(z)."""
    return focal


def _distribution_balanced(
    positives: Tensor,
    rows: int,
    *,
    gamma: float = 2.0,
    alpha: float = 0.1,
    beta: float = 10.0,
    mu: float = 0.9,
    kappa: float = 0.05,
    lambda_: float = 2.0,
) -> LossFunction:
    """Build the focal loss with rebalanced weights and negative-tolerant logits (DB)."""
    _check_at_least_zero(gamma=gamma, alpha=alpha, beta=beta, kappa=kappa)
    if lambda_ <= 0:
        raise ValueError(f"parameter 'lambda_' is {lambda_}; expected a number above 0")
    shift = logit_shift(positives, rows, kappa=kappa)  # (labels,) float64

    def elementwise(logits: Tensor, labels: Tensor) -> Tensor:
        weights = rebalanced_weights(labels, positives.to(logits), alpha=alpha, beta=beta, mu=mu)
        return focal(
            logits, labels, gamma=gamma, weights=weights, shift=shift.to(logits), lambda_=lambda_
        )

    return elementwise


LOSSES: Mapping[str, Callable[..., LossFunction]] = MappingProxyType(
    {"bce": _binary_cross_entropy, "db": _distribution_balanced}
)
"""Loss builders by name: counts (labels,) float64, rows and keyword parameters in; out comes a
function of float logits and bool labels, both (rows, labels), to losses (rows, labels)."""


def _check_parameters(
    name: str, builder: Callable[..., LossFunction], parameters: Mapping[str, float]
) -> None:
    """Refuse parameters the builder does not name, and values that are not finite numbers."""
    signature = inspect.signature(builder).parameters.values()
    known = [entry.name for entry in signature if entry.kind is entry.KEYWORD_ONLY]
    for key, value in parameters.items():
        if key not in known:
            raise ValueError(
                f"loss {name!r} has no parameter {key!r}; it takes: {', '.join(known) or 'none'}"
            )
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not (is_number and math.isfinite(value)):
            raise ValueError(
                f"parameter {key!r} of loss {name!r} is {value!r}; expected a finite number"
            )


def _check_at_least_zero(**parameters: float) -> None:
    for key, value in parameters.items():
        if value < 0:
            raise ValueError(f"parameter {key!r} is {value}; expected a number of at least 0")


def _checked_counts(positives: Tensor | IntArray, rows: int) -> Tensor:
    """Return the counts as a (labels,) float64 tensor of its own, or raise ValueError."""
    counts = (
        positives.detach().clone() if isinstance(positives, Tensor) else torch.tensor(positives)
    )
    if counts.ndim != 1 or counts.shape[0] == 0:
        raise ValueError(f"positives has shape {tuple(counts.shape)}; expected (labels,)")
    if counts.is_floating_point() or counts.is_complex() or counts.dtype == torch.bool:
        raise ValueError(f"positives has dtype {counts.dtype}; expected whole counts, int64")
    if rows < 1:
        raise ValueError(f"rows is {rows}; expected at least 1 training row")
    wrong = ((counts < 0) | (counts > rows)).nonzero()
    if wrong.shape[0]:
        label = int(wrong[0])
        raise ValueError(
            f"positives[{label}] is {int(counts[label])}; expected a count from 0 to rows = {rows}"
        )
    return counts.to(torch.float64)


def _check_shapes(logits: Tensor, labels: Tensor, label_count: int) -> None:
    if logits.shape != labels.shape:
        raise ValueError(
            f"logits have shape {tuple(logits.shape)} and labels {tuple(labels.shape)}; "
            "expected the same (rows, labels)"
        )
    if logits.ndim != 2 or logits.shape[1] != label_count:
        raise ValueError(
            f"logits have shape {tuple(logits.shape)}; expected (rows, {label_count}), one column "
            "for each training count"
        )
    if logits.shape[0] == 0:
        raise ValueError("the batch has 0 rows, and a mean over nothing is not a number")
    if not logits.is_floating_point():
        raise ValueError(f"logits have dtype {logits.dtype}; expected a floating-point dtype")


def _as_mask(labels: Tensor) -> Tensor:
    """Return labels of 0 and 1 as (rows, labels) bool; any other value is a ValueError.

    The mask is needed anyway, so the check costs one comparison and one flag read back.
    """
    if labels.dtype == torch.bool:
        return labels
    mask = labels.bool()  # NaN becomes True, which the comparison then refuses
    if not torch.equal(mask.to(labels.dtype), labels):
        row, label = (labels != mask.to(labels.dtype)).nonzero()[0].tolist()
        raise ValueError(
            f"labels[{row}, {label}] is {labels[row, label].item()}; expected 0 or 1 "
            "(soft labels are not supported)"
        )
    return mask
