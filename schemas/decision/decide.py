"""What a logit means: the one calibration function and the one decision function."""

from __future__ import annotations

from typing import Annotated, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, model_validator

from schemas.arrays import BoolArray, Float32Array

Probability = Annotated[float, Field(ge=0.0, le=1.0)]

CalibrationMethod = Literal["none", "temperature", "platt", "vector", "isotonic"]
CalibrationChoice = Literal["auto", CalibrationMethod]
"""`auto`: whichever method has the lowest cross-validated log loss."""


class Knots(BaseModel):
    """Piecewise linear map of a label from logit to probability, constant outside its ends."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    logits: tuple[FiniteFloat, ...] = Field(min_length=2)
    """Strictly rising."""
    probabilities: tuple[Probability, ...]
    """One a logit, never falling."""

    @model_validator(mode="after")
    def _rising(self) -> Self:
        if len(self.probabilities) != len(self.logits):
            raise ValueError(
                f"{len(self.probabilities)} probabilities for {len(self.logits)} logits"
            )
        if (np.diff(self.logits) <= 0).any() or (np.diff(self.probabilities) < 0).any():
            raise ValueError("logits must rise from knot to knot, and probabilities never fall")
        return self

    def interpolate(self, logits: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Probabilities of one label's logits, (rows,) float64.

        Each is a few roundings of its own logit and the two knots around it, so that, other than
        with np.interp, no choice of algorithm depends on the number of rows.
        """
        places, heights = np.asarray(self.logits), np.asarray(self.probabilities)
        inside = np.clip(logits, places[0], places[-1])
        left = np.minimum(np.searchsorted(places, inside, side="right") - 1, len(places) - 2)
        low, high = heights[left], heights[left + 1]
        share = (inside - places[left]) / (places[left + 1] - places[left])
        between = np.clip(low + share * (high - low), low, high)
        return np.asarray(between, dtype=np.float64)


class Calibration(BaseModel):
    """How logits become probabilities; stored in the artefact.

    A label without knots has p = sigmoid(scale * logit + bias):

    - `none`: scale 1, bias 0.
    - `temperature`: one scale for the task, bias 0 (Guo et al., 2017, with 1 / scale).
    - `platt`: one scale and one bias for the task (Platt, 1999).
    - `vector`: a scale and a bias for each label with enough held-out rows (Guo et al., 2017), and
      those of `platt` for the others.
    - `isotonic`: knots for each label with enough held-out rows (Zadrozny and Elkan, 2002), and
      scale and bias of `platt` for the others.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    method: CalibrationMethod
    scale: tuple[Annotated[FiniteFloat, Field(gt=0.0)], ...]
    """One a label; positive, so that a higher logit is never a lower probability."""
    bias: tuple[FiniteFloat, ...]
    """One a label."""
    knots: tuple[Knots | None, ...] = ()
    """One a label for `isotonic`, None where scale and bias hold; empty for other methods."""

    @model_validator(mode="after")
    def _fits_its_method(self) -> Self:
        if self.method == "none" and {*self.scale} - {1.0}:
            raise ValueError("method 'none' has scale 1")
        if self.method in ("none", "temperature") and any(self.bias):
            raise ValueError(f"method {self.method!r} has bias 0")
        if self.method in ("temperature", "platt") and len({*self.scale}) + len({*self.bias}) > 2:
            raise ValueError(f"method {self.method!r} has one scale and one bias for all labels")
        if self.method != "isotonic" and self.knots:
            raise ValueError(f"method {self.method!r} has no knots")
        return self

    @classmethod
    def none(cls, labels: int) -> Calibration:
        """The calibration that changes nothing, for `labels` labels."""
        return cls(method="none", scale=(1.0,) * labels, bias=(0.0,) * labels)


def calibrate(logits: Float32Array, calibration: Calibration) -> Float32Array:
    """Turn logits into probabilities.

    logits: (rows, labels) float32.
    Returns (rows, labels) float32 in [0, 1]. Computed in float64 and rounded once, so that a row's
    result does not depend on the rows around it.
    """
    scale = np.asarray(calibration.scale, dtype=np.float64)
    bias = np.asarray(calibration.bias, dtype=np.float64)
    exact = np.ascontiguousarray(logits, dtype=np.float64)
    positive = np.exp(-np.logaddexp(0.0, -(exact * scale + bias)))  # cannot overflow
    for label, knots in enumerate(calibration.knots):
        if knots is not None:
            positive[:, label] = knots.interpolate(exact[:, label])
    return positive.astype(np.float32)


def decide(probabilities: Float32Array, thresholds: Float32Array) -> BoolArray:
    """Mark the labels that reach their threshold.

    probabilities: (rows, labels) float32 in [0, 1].
    thresholds: (labels,) float32, in label order.
    Returns (rows, labels) bool; equality counts as positive.
    """
    return np.asarray(probabilities >= thresholds, dtype=np.bool_)
