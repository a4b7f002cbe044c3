"""Finding calibration and thresholds on held-out texts."""

from __future__ import annotations

import numpy as np
from sklearn.linear_model import LogisticRegression

from schemas.decision import Calibration, FloatArray
from schemas.tasks import BoolArray

WEAK_PENALTY = 1e4
"""Inverse strength of the fit's penalty: just enough that a separable set has a finite slope."""


def fit_calibration(logits: FloatArray, gold: BoolArray) -> Calibration:
    """Platt scaling (Platt, 1999) with one slope and one offset shared by all labels of the task.

    Shared, because a rare label has too few held-out rows to carry two numbers of its own.
    logits, gold: (rows, labels). Falls back to no calibration if gold holds one value only, or if
    the slope found would turn the order of the logits round.
    """
    labels = gold.shape[1]
    if gold.all() or not gold.any():
        return Calibration.none(labels)
    model = LogisticRegression(C=WEAK_PENALTY, max_iter=1000)
    model.fit(logits.astype(np.float64).reshape(-1, 1), gold.ravel())
    slope, offset = float(model.coef_[0, 0]), float(model.intercept_[0])
    if slope <= 0:
        return Calibration.none(labels)
    return Calibration(method="platt", scale=(slope,) * labels, bias=(offset,) * labels)
