"""Multi-label losses for long-tailed labels, by name.

`make_loss` joins the pure functions of `trainer.losses.terms` into one of the published losses,
checks every batch, and takes the mean. A new loss is one builder function and one line in `LOSSES`.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from schemas.arrays import BoolArray, Int64Array
from trainer.losses.terms import (
    asymmetric,
    auto_mu,
    class_balanced_weights,
    focal,
    logit_shift,
    positive_weights,
    rebalanced_weights,
)

LossFunction: TypeAlias = Callable[[Tensor, Tensor], Tensor]
Parameter: TypeAlias = float | Literal["auto"]


def make_loss(
    name: str,
    *,
    positives: Tensor | Int64Array,
    rows: int,
    training_labels: Tensor | BoolArray | None = None,
    **parameters: Parameter,
) -> LossFunction:
    """Build the loss called `name` for one task's training counts.

    name: a key of `LOSSES`, here with its parameters and their published defaults.
        `bce`: binary cross-entropy; positive_power 0 (`positive_weights` to that power).
        `focal`: focal loss; gamma 2.
        `cb`: class-balanced focal loss; gamma 2, beta 0.9.
        `r-fl`: rebalanced focal loss; gamma 2, alpha 0.1, beta 10, mu 0.9.
        `ntr-fl`: negative-tolerant focal loss; gamma 2, kappa 0.05, lambda_ 2.
        `db`: distribution-balanced loss, `r-fl` weights over `ntr-fl`; the parameters of both.
        `cb-ntr`: `cb` weights over `ntr-fl`; gamma 2, beta 0.9, kappa 0.05, lambda_ 2.
        `asl`: asymmetric loss; gamma_pos 0, gamma_neg 4, clip 0.05.
    positives: (labels,) int64, how many training rows have each label.
    rows: number of training rows.
    training_labels: (rows, labels) of 0 and 1, needed for `mu="auto"` alone: then mu is what
        `auto_mu` finds in them. Without them mu is found in the counts: the r values of a row add
        up to 1, so their mean is rows / sum(n) if every row has a label, and their median is 1
        for certain where that mean is above 3/4; below, the mean stands for the median too.
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
    if parameters.get("mu") == "auto":
        parameters["mu"] = _find_mu(counts, rows, training_labels)
    elementwise = builder(counts, rows, **parameters)
    label_count = counts.shape[0]

    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        _check_shapes(logits, labels, label_count)
        wide = logits if logits.dtype == torch.float64 else logits.to(torch.float32)
        return elementwise(wide, _as_mask(labels)).mean()

    return loss


def _bce(positives: Tensor, rows: int, *, positive_power: float = 0.0) -> LossFunction:
    """Build binary cross-entropy, with its positives weighted if a power is given."""
    _check_at_least_zero(positive_power=positive_power)
    if positive_power == 0.0:
        return focal
    by_label = positive_weights(positives, rows, power=positive_power)

    def elementwise(logits: Tensor, labels: Tensor) -> Tensor:
        return focal(logits, labels, weights=torch.where(labels, by_label.to(logits), 1.0))

    return elementwise


def _focal(positives: Tensor, rows: int, *, gamma: float = 2.0) -> LossFunction:
    """Build the focal loss (FL)."""
    return _negative_tolerant(positives, rows, gamma=gamma, kappa=0.0, lambda_=1.0)


def _class_balanced(
    positives: Tensor, rows: int, *, gamma: float = 2.0, beta: float = 0.9
) -> LossFunction:
    """Build the focal loss with class-balanced weights (CB)."""
    return _class_balanced_negative_tolerant(
        positives, rows, gamma=gamma, beta=beta, kappa=0.0, lambda_=1.0
    )


def _rebalanced(
    positives: Tensor,
    rows: int,
    *,
    gamma: float = 2.0,
    alpha: float = 0.1,
    beta: float = 10.0,
    mu: float = 0.9,
) -> LossFunction:
    """Build the focal loss with rebalanced weights (R-FL)."""
    return _distribution_balanced(
        positives, rows, gamma=gamma, alpha=alpha, beta=beta, mu=mu, kappa=0.0, lambda_=1.0
    )


def _negative_tolerant(
    positives: Tensor, rows: int, *, gamma: float = 2.0, kappa: float = 0.05, lambda_: float = 2.0
) -> LossFunction:
    """Build the focal loss with negative-tolerant logits (NTR-FL)."""
    shift = _checked_shift(positives, rows, gamma=gamma, kappa=kappa, lambda_=lambda_)

    def elementwise(logits: Tensor, labels: Tensor) -> Tensor:
        return focal(logits, labels, gamma=gamma, shift=shift.to(logits), lambda_=lambda_)

    return elementwise


def _class_balanced_negative_tolerant(
    positives: Tensor,
    rows: int,
    *,
    gamma: float = 2.0,
    beta: float = 0.9,
    kappa: float = 0.05,
    lambda_: float = 2.0,
) -> LossFunction:
    """Build the focal loss with class-balanced weights and negative-tolerant logits (CB-NTR)."""
    if not 0.0 <= beta < 1.0:
        raise ValueError(f"parameter 'beta' is {beta}; expected a number from 0 to below 1")
    by_label = class_balanced_weights(positives, beta=beta)
    tolerant = _negative_tolerant(positives, rows, gamma=gamma, kappa=kappa, lambda_=lambda_)
    return lambda logits, labels: by_label.to(logits) * tolerant(logits, labels)


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
    _check_at_least_zero(alpha=alpha, beta=beta)
    tolerant = _negative_tolerant(positives, rows, gamma=gamma, kappa=kappa, lambda_=lambda_)

    def elementwise(logits: Tensor, labels: Tensor) -> Tensor:
        weights = rebalanced_weights(labels, positives.to(logits), alpha=alpha, beta=beta, mu=mu)
        return weights * tolerant(logits, labels)

    return elementwise


def _asymmetric(
    positives: Tensor,
    rows: int,
    *,
    gamma_pos: float = 0.0,
    gamma_neg: float = 4.0,
    clip: float = 0.05,
) -> LossFunction:
    """Build the asymmetric loss (ASL)."""
    _check_at_least_zero(gamma_pos=gamma_pos, gamma_neg=gamma_neg)
    if not 0.0 <= clip < 1.0:
        raise ValueError(f"parameter 'clip' is {clip}; expected a number from 0 to below 1")
    return lambda logits, labels: asymmetric(
        logits, labels, gamma_pos=gamma_pos, gamma_neg=gamma_neg, clip=clip
    )


LOSSES: Mapping[str, Callable[..., LossFunction]] = MappingProxyType(
    {
        "bce": _bce,
        "focal": _focal,
        "cb": _class_balanced,
        "r-fl": _rebalanced,
        "ntr-fl": _negative_tolerant,
        "db": _distribution_balanced,
        "cb-ntr": _class_balanced_negative_tolerant,
        "asl": _asymmetric,
    }
)
"""Loss builders by name: counts (labels,) float64, rows and keyword parameters in; out comes a
function of float logits and bool labels, both (rows, labels), to losses (rows, labels)."""


def _find_mu(positives: Tensor, rows: int, training_labels: Tensor | BoolArray | None) -> float:
    """The middle r value, from the training rows or, without them, from the counts."""
    if training_labels is not None:
        return auto_mu(_as_mask(torch.as_tensor(training_labels)), positives)
    total = float(positives.sum())
    if total == 0.0:
        raise ValueError("mu cannot be found: no training row has a label")
    mean = min(1.0, rows / total)
    median = 1.0 if mean > 0.75 else mean
    return (mean + median) / 2


def _checked_shift(
    positives: Tensor, rows: int, *, gamma: float, kappa: float, lambda_: float
) -> Tensor:
    """Return the shift of each logit, (labels,) float64, or raise ValueError."""
    _check_at_least_zero(gamma=gamma, kappa=kappa)
    if lambda_ <= 0:
        raise ValueError(f"parameter 'lambda_' is {lambda_}; expected a number above 0")
    return logit_shift(positives, rows, kappa=kappa)


def check_names(name: str, builder: Callable[..., object], parameters: Iterable[str]) -> None:
    """Refuse parameters that a loss builder does not name as keywords of its own (ValueError)."""
    signature = inspect.signature(builder).parameters.values()
    known = [entry.name for entry in signature if entry.kind is entry.KEYWORD_ONLY]
    for key in parameters:
        if key not in known:
            raise ValueError(
                f"loss {name!r} has no parameter {key!r}; it takes: {', '.join(known) or 'none'}"
            )


def _check_parameters(
    name: str, builder: Callable[..., LossFunction], parameters: Mapping[str, Parameter]
) -> None:
    """Refuse parameters the builder does not name, and values that are not finite numbers."""
    check_names(name, builder, parameters)
    for key, value in parameters.items():
        if key == "mu" and value == "auto":
            continue
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not (is_number and math.isfinite(float(value))):
            raise ValueError(
                f"parameter {key!r} of loss {name!r} is {value!r}; expected a finite number"
            )


def _check_at_least_zero(**parameters: float) -> None:
    for key, value in parameters.items():
        if value < 0:
            raise ValueError(f"parameter {key!r} is {value}; expected a number of at least 0")


def _checked_counts(positives: Tensor | Int64Array, rows: int) -> Tensor:
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
