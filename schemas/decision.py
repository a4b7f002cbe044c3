"""What a logit means: the one calibration function and the one decision function."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, FiniteFloat

from schemas.tasks import BoolArray

FloatArray = npt.NDArray[np.float32]


class Calibration(BaseModel):
    """How logits become probabilities; stored in the artefact.

    `platt`: p = sigmoid(scale * logit + bias), one pair a label (Platt 1999); `none` has scale 1
    and bias 0.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: Literal["none", "platt"]
    scale: tuple[FiniteFloat, ...]
    bias: tuple[FiniteFloat, ...]

    @classmethod
    def none(cls, labels: int) -> Calibration:
        """The calibration that changes nothing, for `labels` labels."""
        return cls(method="none", scale=(1.0,) * labels, bias=(0.0,) * labels)


def calibrate(logits: FloatArray, calibration: Calibration) -> FloatArray:
    """Turn logits into probabilities.

    logits: (rows, labels) float32.
    Returns (rows, labels) float32 in [0, 1]. Computed in float64 and rounded once, so that a row's
    result does not depend on the rows around it.
    """
    scale = np.asarray(calibration.scale, dtype=np.float64)
    bias = np.asarray(calibration.bias, dtype=np.float64)
    scaled = np.ascontiguousarray(logits, dtype=np.float64) * scale + bias
    positive = np.exp(-np.logaddexp(0.0, -scaled))  # a sigmoid that cannot overflow
    return positive.astype(np.float32)


def decide(probabilities: FloatArray, thresholds: FloatArray) -> BoolArray:
    """Mark the labels that reach their threshold.

    probabilities: (rows, labels) float32 in [0, 1].
    thresholds: (labels,) float32, in label order.
    Returns (rows, labels) bool; equality counts as positive.
    """
    return np.asarray(probabilities >= thresholds, dtype=np.bool_)
