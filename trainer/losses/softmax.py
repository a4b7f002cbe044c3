"""Losses for labels that exclude each other, by name: multiclass rows and the tags of tokens."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TypeAlias

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from schemas.arrays import Int64Array
from schemas.decision.spans import IGNORED
from trainer.losses.sigmoid import check_names

LossFunction: TypeAlias = Callable[[Tensor, Tensor], Tensor]
Parameter: TypeAlias = float | str


def make_class_loss(
    name: str, *, counts: Tensor | Int64Array, **parameters: Parameter
) -> LossFunction:
    """Build the loss called `name` for one task's training counts.

    name: a key of `CLASS_LOSSES`, here with its parameters and their defaults.
        `ce`: softmax cross-entropy; no parameters.
        `weighted-ce`: the same, weighted by class; weights "balanced", beta 0.999.
        `focal-ce`: softmax focal loss; gamma 2, weights "none", beta 0.999.
        `weights` is "none", "balanced" (`balanced_weights`) or "effective" (`effective_weights`,
        which alone looks at beta).
    counts: (classes,) int64, how many training elements have each class.
    parameters: values that replace the defaults above.

    The returned function takes `logits` (rows, classes) or (rows, seq, classes) float and `labels`
    (rows,) or (rows, seq) int64, `IGNORED` where there is nothing to learn, and returns the scalar
    mean over the elements that are not ignored: the sum of the weighted losses by the number of
    elements, where `torch.nn.functional.cross_entropy` divides by the sum of their weights and so
    undoes the weight of a class that fills a batch. A batch that is ignored whole costs 0 and has
    gradient 0: a text that is cut before its first annotated token must not end a run. It computes
    in float32, or in float64 if the logits are. It raises ValueError for shapes that do not belong
    together and for labels that are neither a class nor `IGNORED`.

    Raises ValueError for an unknown name or parameter, a parameter out of range, and counts that
    are negative or all 0.
    """
    if name not in CLASS_LOSSES:
        known = ", ".join(sorted(CLASS_LOSSES))
        raise ValueError(f"unknown loss {name!r}; expected one of: {known}")
    builder = CLASS_LOSSES[name]
    _check_parameters(name, builder, parameters)
    checked = _checked_counts(counts)
    elementwise, weights = builder(checked, **parameters)
    classes = checked.shape[0]

    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        _check_batch(logits, labels, classes)
        wide = logits if logits.dtype == torch.float64 else logits.to(torch.float32)
        flat_labels = labels.reshape(-1)
        counted = flat_labels != IGNORED
        kept_logits = wide.reshape(-1, classes)[counted]  # (elements, classes)
        kept_labels = flat_labels[counted]
        by_element = weights.to(kept_logits)[kept_labels]  # (elements,)
        costs = by_element * elementwise(kept_logits, kept_labels)
        return costs.sum() / max(1, costs.shape[0])  # an empty sum is 0 and has a gradient

    return loss


def balanced_weights(counts: Tensor) -> Tensor:
    """Weight of each class by the inverse of its frequency.

        w_c = n / (C n_c)

    counts: (classes,) float training counts n_c; n is their sum and C the number of classes with
        any. Returns (classes,) > 0 with a mean of 1 over the training elements. A class without
        elements gets the weight of one with a single element.

    Source: King and Zeng (2001), Logistic Regression in Rare Events Data, eq. 6, for C classes.
    """
    return counts.sum() / ((counts > 0).sum() * counts.clamp(min=1.0))


def effective_weights(counts: Tensor, *, beta: float) -> Tensor:
    """Weight of each class by the inverse of its effective number of elements.

        w_c = (1 - beta) / (1 - beta^n_c),    scaled to a mean of 1 over the training elements

    counts: (classes,) float training counts n_c. beta: in [0, 1); 0 weighs all classes alike, and
        near 1 the weights come close to `balanced_weights`.
    Returns (classes,) > 0. A class without elements gets the weight of one with a single element.

    Source: Cui et al. (2019), Class-Balanced Loss Based on Effective Number of Samples, eq. 2.
    """
    raw = (1.0 - beta) / (1.0 - beta ** counts.clamp(min=1.0))
    return raw * counts.sum() / (raw * counts).sum()


def focal_cross_entropy(logits: Tensor, labels: Tensor, *, gamma: float) -> Tensor:
    """Softmax focal loss of each element.

        -(1 - p_t)^gamma log p_t,    p = softmax(z), t the label

    logits: (elements, classes) float. labels: (elements,) int64. gamma: focusing exponent, >= 0.
    Returns (elements,). With gamma 0 it is the cross-entropy.

    Source: Lin et al. (2017), Focal Loss for Dense Object Detection, eq. 4, for more than two
    classes.
    """
    costs = cross_entropy(logits, labels, reduction="none")  # -log p_t
    if gamma == 0.0:
        return costs
    # 1 - p_t without cancellation; its power has no gradient at 0, where the cost is 0 too.
    missing = -torch.expm1(-costs)
    return missing.clamp(min=torch.finfo(costs.dtype).tiny) ** gamma * costs


def _cross_entropy(counts: Tensor) -> tuple[LossFunction, Tensor]:
    """Build softmax cross-entropy (CE)."""
    return _focal_cross_entropy(counts, gamma=0.0)


def _weighted_cross_entropy(
    counts: Tensor, *, weights: str = "balanced", beta: float = 0.999
) -> tuple[LossFunction, Tensor]:
    """Build softmax cross-entropy with class weights."""
    return _focal_cross_entropy(counts, gamma=0.0, weights=weights, beta=beta)


def _focal_cross_entropy(
    counts: Tensor, *, gamma: float = 2.0, weights: str = "none", beta: float = 0.999
) -> tuple[LossFunction, Tensor]:
    """Build the softmax focal loss."""
    if gamma < 0:
        raise ValueError(f"parameter 'gamma' is {gamma}; expected a number of at least 0")

    def elementwise(logits: Tensor, labels: Tensor) -> Tensor:
        return focal_cross_entropy(logits, labels, gamma=gamma)

    return elementwise, _class_weights(counts, weights, beta)


CLASS_LOSSES: Mapping[str, Callable[..., tuple[LossFunction, Tensor]]] = MappingProxyType(
    {
        "ce": _cross_entropy,
        "weighted-ce": _weighted_cross_entropy,
        "focal-ce": _focal_cross_entropy,
    }
)
"""Loss builders by name: counts (classes,) float64 and keyword parameters in; out come a function
of float logits (elements, classes) and int64 labels (elements,) to losses (elements,), and the
weight of each class (classes,) float64."""


def _class_weights(counts: Tensor, weights: str, beta: float) -> Tensor:
    if not 0.0 <= beta < 1.0:
        raise ValueError(f"parameter 'beta' is {beta}; expected a number from 0 to below 1")
    if weights == "balanced":
        return balanced_weights(counts)
    if weights == "effective":
        return effective_weights(counts, beta=beta)
    if weights == "none":
        return torch.ones_like(counts)
    raise ValueError(
        f"parameter 'weights' is {weights!r}; expected 'none', 'balanced' or 'effective'"
    )


def _check_parameters(
    name: str, builder: Callable[..., object], parameters: Mapping[str, Parameter]
) -> None:
    """Refuse parameters the builder does not name, and values of the wrong kind."""
    check_names(name, builder, parameters)
    for key, value in parameters.items():
        if key == "weights":
            continue  # the builder knows the names
        if isinstance(value, str | bool) or not math.isfinite(value):
            raise ValueError(
                f"parameter {key!r} of loss {name!r} is {value!r}; expected a finite number"
            )


def _checked_counts(counts: Tensor | Int64Array) -> Tensor:
    """Return the counts as a (classes,) float64 tensor of its own, or raise ValueError."""
    checked = counts.detach().clone() if isinstance(counts, Tensor) else torch.tensor(counts)
    if checked.ndim != 1 or checked.shape[0] == 0:
        raise ValueError(f"counts has shape {tuple(checked.shape)}; expected (classes,)")
    if checked.is_floating_point() or checked.is_complex() or checked.dtype == torch.bool:
        raise ValueError(f"counts has dtype {checked.dtype}; expected whole counts, int64")
    if int(checked.min()) < 0:
        raise ValueError(f"counts[{int(checked.argmin())}] is {int(checked.min())}; expected >= 0")
    if int(checked.sum()) == 0:
        raise ValueError("no training element has a class")
    return checked.to(torch.float64)


def _check_batch(logits: Tensor, labels: Tensor, classes: int) -> None:
    if logits.ndim not in {2, 3} or logits.shape[-1] != classes:
        raise ValueError(
            f"logits have shape {tuple(logits.shape)}; expected (rows, {classes}) or "
            f"(rows, seq, {classes}), one column for each training count"
        )
    if labels.shape != logits.shape[:-1]:
        raise ValueError(
            f"labels have shape {tuple(labels.shape)}; expected {tuple(logits.shape[:-1])}, that "
            "of the logits without classes"
        )
    if not logits.is_floating_point():
        raise ValueError(f"logits have dtype {logits.dtype}; expected a floating-point dtype")
    if labels.dtype != torch.int64:
        raise ValueError(f"labels have dtype {labels.dtype}; expected int64")
    wrong = ((labels < 0) | (labels >= classes)) & (labels != IGNORED)
    if bool(wrong.any()):
        raise ValueError(
            f"a label is {int(labels[wrong][0])}; expected 0 to {classes - 1}, or {IGNORED}"
        )
