"""Fitting calibration to held-out rows, and choosing between the methods."""

from __future__ import annotations

import logging
from typing import NamedTuple, get_args

import numpy as np
import numpy.typing as npt
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from schemas.arrays import BoolArray, Float32Array
from schemas.decision.decide import (
    Calibration,
    CalibrationChoice,
    CalibrationMethod,
    Knots,
    calibrate,
)
from schemas.decision.levels import ONE_LEVEL, LabelTree
from schemas.decision.thresholds import each_fold

log = logging.getLogger(__name__)

WEAK_PENALTY = 1e4
"""Inverse strength of the fit's penalty: just enough that a separable set has a finite slope."""
VECTOR_ROWS = 20
"""Positive and negative held-out rows, each, from which a label has a scale and bias of its own:
ten a number, the usual rule for logistic regression (Peduzzi et al., 1996)."""
ISOTONIC_ROWS = 50
"""Positive and negative held-out rows, each, from which a label has a curve of its own."""


class Line(NamedTuple):
    """p = sigmoid(scale * logit + bias)."""

    scale: float
    bias: float


def fit_calibration(
    logits: Float32Array,
    gold: BoolArray,
    method: CalibrationChoice,
    tree: LabelTree = ONE_LEVEL,
) -> Calibration:
    """Fit calibration to held-out rows by maximum likelihood, or isotonic regression.

    Labels with too few rows share the task's fit. `vector` and `isotonic` end as `platt` where no
    label has enough, and every method as `none` where gold contains one value only, or where the
    shared slope would turn the order of the logits round.
    logits, gold: (rows, labels). tree: of the labels, which `auto` compares methods by.
    """
    labels = gold.shape[1]
    chosen = choose_method(logits, gold, tree) if method == "auto" else method
    shared = None
    if chosen != "none":
        shared = _fit_line(logits.ravel(), gold.ravel(), bias=chosen != "temperature")
    if shared is None:
        return Calibration.none(labels)
    lines = [shared] * labels
    if chosen == "vector":
        own = [
            _fit_line(logits[:, label], gold[:, label]) if rows >= VECTOR_ROWS else None
            for label, rows in enumerate(_rarer(gold))
        ]
        chosen = "vector" if any(own) else "platt"
        lines = [line or shared for line in own]
    knots: tuple[Knots | None, ...] = ()
    if chosen == "isotonic":
        knots = tuple(
            _fit_knots(logits[:, label], gold[:, label]) if rows >= ISOTONIC_ROWS else None
            for label, rows in enumerate(_rarer(gold))
        )
        chosen, knots = ("isotonic", knots) if any(knots) else ("platt", ())
    return Calibration(
        method=chosen,
        scale=tuple(line.scale for line in lines),
        bias=tuple(line.bias for line in lines),
        knots=knots,
    )


def choose_method(
    logits: Float32Array, gold: BoolArray, tree: LabelTree = ONE_LEVEL
) -> CalibrationMethod:
    """The method with the lowest cross-validated log loss; of equals the one with fewer numbers.

    logits, gold: (rows, labels). tree: of the labels.
    """
    methods: tuple[CalibrationMethod, ...] = get_args(CalibrationMethod)
    losses = {}
    for method in methods:
        probabilities = cross_fitted(logits, gold, method, tree).astype(np.float64)
        losses[method] = log_loss(gold.ravel(), probabilities.ravel(), labels=[False, True])
    shown = ", ".join(f"{method} {loss:.5f}" for method, loss in losses.items())
    log.info("calibration: cross-validated log loss %s", shown)
    return min(methods, key=losses.__getitem__)


def cross_fitted(
    logits: Float32Array,
    gold: BoolArray,
    method: CalibrationMethod,
    tree: LabelTree = ONE_LEVEL,
) -> Float32Array:
    """Probabilities of every row by a fit to the other folds only.

    logits, gold: (rows, labels). tree: of the labels. Returns (rows, labels) float32.
    """
    probabilities = np.zeros(logits.shape, dtype=np.float32)
    for inside in each_fold(len(gold)):
        fitted = fit_calibration(logits[~inside], gold[~inside], method)
        probabilities[inside] = calibrate(logits[inside], fitted)
    return tree.probabilities(probabilities)


def _fit_line(
    logits: npt.NDArray[np.float32], gold: BoolArray, *, bias: bool = True
) -> Line | None:
    """Fit by maximum likelihood, or None where nothing can be fitted; both arrays (pairs,)."""
    if gold.all() or not gold.any():
        return None
    model = LogisticRegression(C=WEAK_PENALTY, max_iter=1000, fit_intercept=bias)
    model.fit(logits.astype(np.float64).reshape(-1, 1), gold)
    line = Line(float(model.coef_[0, 0]), float(model.intercept_[0]) if bias else 0.0)
    return line if line.scale > 0 else None


def _fit_knots(logits: npt.NDArray[np.float32], gold: BoolArray) -> Knots | None:
    """Centered isotonic regression (Oron and Flournoy, 2017) of one label; both arrays (rows,).

    Each flat piece of an isotonic fit becomes one knot at its mean logit, so that within the knots
    a higher logit is a higher probability. Ends are kept off 0 and 1 by one row in all, because no
    finite sample shows that something never happens. None for a fit that is flat.
    """
    margin = 1 / (len(gold) + 2)
    model = IsotonicRegression(y_min=margin, y_max=1 - margin, out_of_bounds="clip")
    exact = logits.astype(np.float64)
    levels, piece = np.unique(model.fit_transform(exact, gold), return_inverse=True)
    if len(levels) < 2:
        return None
    centers = np.bincount(piece, exact) / np.bincount(piece)
    return Knots(logits=tuple(centers.tolist()), probabilities=tuple(levels.tolist()))


def _rarer(gold: BoolArray) -> list[int]:
    """Rows of the rarer of both values, one count a label."""
    positives = gold.sum(axis=0)
    counts: list[int] = np.minimum(positives, len(gold) - positives).tolist()
    return counts
