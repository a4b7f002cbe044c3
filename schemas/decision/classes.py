"""What the logits of classes that exclude each other mean: calibration, decision and scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, model_validator

from schemas.arrays import Float32Array, Float64Array, Int64Array
from schemas.decision.decide import Probability
from schemas.decision.metrics import F1Scores
from schemas.decision.settings import CalibrationQuality
from schemas.tasks.sections import Section

ClassCalibrationMethod = Literal["none", "temperature", "vector"]
ClassCalibrationChoice = Literal["auto", ClassCalibrationMethod]
"""`auto`: whichever method has the lowest cross-validated log loss."""

NO_CLASS = -1
"""Index of a row that gets no class, or has none in gold."""


class ClassCalibration(BaseModel):
    """How logits become probabilities: p = softmax(scale * logits + bias).

    - `none`: scale 1, bias 0.
    - `temperature`: one scale for the task, bias 0 (Guo et al., 2017, with 1 / scale).
    - `vector`: a scale and a bias for each class (Guo et al., 2017).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    method: ClassCalibrationMethod
    scale: tuple[Annotated[FiniteFloat, Field(gt=0.0)], ...]
    """One a class; positive, so that a higher logit is never a lower probability."""
    bias: tuple[FiniteFloat, ...]
    """One a class."""

    @model_validator(mode="after")
    def _fits_its_method(self) -> Self:
        if self.method == "none" and {*self.scale} - {1.0}:
            raise ValueError("method 'none' has scale 1")
        if self.method != "vector" and any(self.bias):
            raise ValueError(f"method {self.method!r} has bias 0")
        if self.method == "temperature" and len({*self.scale}) > 1:
            raise ValueError("method 'temperature' has one scale for all classes")
        return self

    @classmethod
    def none(cls, classes: int) -> Self:
        """The calibration that changes nothing, for `classes` classes."""
        return cls(method="none", scale=(1.0,) * classes, bias=(0.0,) * classes)


class ClassDecisionConfig(Section):
    """How logits become a class, chosen on the held-out rows when a checkpoint is exported."""

    calibration: ClassCalibrationChoice = "temperature"
    """How logits become probabilities. `none`: the softmax. `temperature`: one scale for the task.
    `vector`: a scale and a bias for each class. `auto`: whichever has the lowest cross-validated
    log loss."""
    least_probability: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Calibrated probability below which the most probable class is not given, and the row gets no
    label."""


class ClassDecisionEvidence(BaseModel):
    """How a calibration was chosen on the held-out texts; tuples in label order."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    calibration: ClassCalibrationChoice
    """What was asked for; the calibration itself says what was fitted."""
    positives: tuple[int, ...]
    """Held-out texts of each class."""
    before: CalibrationQuality
    """Of the softmax of the logits."""
    after: CalibrationQuality
    """Of calibrated probabilities, each text's by a fit without it."""


class ClassDecision(BaseModel):
    """Calibration, and the probability that a class needs."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    calibration: ClassCalibration
    least_probability: Probability
    """A probability equal to it is enough."""


class ClassScores(F1Scores):
    """Scores of rows with one class each.

    micro_f1 is the accuracy if every row gets a class. macro_f1 is the mean over all classes of the
    task, seen or not; weighted_f1 the mean over classes weighted by their gold rows.
    """

    accuracy: float
    macro_precision: float
    macro_recall: float
    weighted_f1: float

    def headline(self) -> dict[str, float]:
        """Scores that a reduced precision may not lower."""
        return {"accuracy": self.accuracy, "macro_f1": self.macro_f1}


@dataclass(frozen=True)
class Confusion:
    """Rows by gold class and decided class.

    counts: (classes, classes + 1) int64, gold by decided; the last column has rows without a class.
    """

    counts: Int64Array

    @classmethod
    def count(cls, gold: Int64Array, decided: Int64Array, classes: int) -> Self:
        """Compare rows that have gold; gold, decided: (rows,) int64, NO_CLASS for none."""
        has_gold = gold != NO_CLASS
        columns = np.where(decided == NO_CLASS, classes, decided)[has_gold]
        flat = gold[has_gold] * (classes + 1) + columns
        counts = np.bincount(flat, minlength=classes * (classes + 1))
        return cls(counts.reshape(classes, classes + 1).astype(np.int64))

    def __add__(self, other: Confusion) -> Confusion:
        return Confusion(self.counts + other.counts)

    def scores(self) -> ClassScores:
        """Scores of everything counted so far."""
        right = np.diagonal(self.counts)
        decided, gold = self.counts[:, :-1].sum(axis=0), self.counts.sum(axis=1)
        return class_scores(right, decided, gold)


def class_scores(right: Int64Array, decided: Int64Array, gold: Int64Array) -> ClassScores:
    """Scores from rows by class: right ones, decided ones, and gold ones, (classes,) int64 each."""
    rows, hits = int(gold.sum()), int(right.sum())
    precision, recall = right / np.maximum(decided, 1), right / np.maximum(gold, 1)
    f1 = 2 * right / np.maximum(decided + gold, 1)
    return ClassScores(
        rows=rows,
        micro_f1=2 * hits / max(int(decided.sum()) + rows, 1),
        macro_f1=float(f1.mean()),
        accuracy=hits / max(rows, 1),
        macro_precision=float(precision.mean()),
        macro_recall=float(recall.mean()),
        weighted_f1=float(f1 @ gold) / max(rows, 1),
    )


def class_probabilities(logits: Float32Array, calibration: ClassCalibration) -> Float32Array:
    """Turn logits into probabilities that add up to 1.

    logits: (rows, classes) float32.
    Returns (rows, classes) float32 in [0, 1]. Computed in float64 and rounded once, and summed
    class by class, so that a row's result does not depend on the rows around it.
    """
    exact = np.ascontiguousarray(logits, dtype=np.float64)
    scaled = exact * np.asarray(calibration.scale) + np.asarray(calibration.bias)
    return softmax(scaled).astype(np.float32)


def softmax(scaled: Float64Array) -> Float64Array:
    """Softmax over the last axis, (rows, classes) float64, the same bits for a row in any batch."""
    powers = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    total = np.zeros(len(powers))
    for column in powers.T:
        total += column
    return np.asarray(powers / total[:, None], dtype=np.float64)


def decide_class(probabilities: Float32Array, least_probability: float) -> Int64Array:
    """The most probable class of each row, the first of equal ones.

    probabilities: (rows, classes) float32. Returns (rows,) int64, NO_CLASS where even the most
    probable class is below `least_probability`.
    """
    if not len(probabilities):
        return np.zeros(0, np.int64)
    best = probabilities.argmax(axis=1)
    is_enough = probabilities.max(axis=1) >= np.float32(least_probability)
    return np.where(is_enough, best, NO_CLASS).astype(np.int64)
