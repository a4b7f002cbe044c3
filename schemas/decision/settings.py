"""How calibration and thresholds are to be chosen, and the evidence for what was chosen."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from schemas.decision.decide import CalibrationChoice, Probability
from schemas.decision.set_rule import check_set_size
from schemas.decision.thresholds import ThresholdRule
from schemas.tasks.sections import Section


class DecisionConfig(Section):
    """How logits become labels, chosen on the held-out rows when a checkpoint is exported."""

    calibration: CalibrationChoice = "platt"
    """How logits become probabilities. `none`: the sigmoid. `temperature`: one scale for the task.
    `platt`: one scale and one bias. `vector`: those for each label that has enough rows.
    `isotonic`: a piecewise linear curve for each that has many. `auto`: whichever has the lowest
    cross-validated log loss."""
    thresholds: ThresholdRule = ThresholdRule()
    """How thresholds are chosen."""
    fewest_labels: int = Field(default=0, ge=0)
    """Minimum number of labels per text: if fewer reach their threshold, the most probable others
    are added. With `parents`, coarse labels that have fine ones do not count: they are then those
    of the fine labels."""
    most_labels: int = Field(default=0, ge=0)
    """Maximum number of labels per text, counted in the same way: of more, the most probable
    remain; 0 for no limit. If it equals `fewest_labels`, thresholds have no effect. Thresholds are
    chosen without regard to either."""

    @model_validator(mode="after")
    def _some_size_fits(self) -> Self:
        check_set_size(self)
        return self


class CalibrationQuality(BaseModel):
    """How far probabilities were from what was so, each in label order; 0 is best."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    ece: tuple[Probability, ...]
    """Expected calibration error: mean distance between the mean probability of a bin and its share
    of positives (Guo et al., 2017), in bins of equal mass (Nixon et al., 2019)."""
    brier: tuple[Probability, ...]
    """Mean squared distance between probability and gold (Brier, 1950)."""


class DecisionEvidence(BaseModel):
    """How calibration and thresholds were chosen on the held-out texts; tuples in label order."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    calibration: CalibrationChoice
    """What was asked for; the calibration itself says what was fitted."""
    thresholds: ThresholdRule
    """The rule that chose the thresholds."""
    confidence: Probability
    """Share of the resamples whose threshold lies inside `intervals`."""
    intervals: tuple[tuple[Probability, Probability], ...]
    """Where each threshold lies when the held-out texts are drawn again, low and high."""
    positives: tuple[int, ...]
    """Held-out texts that have the label."""
    before: CalibrationQuality
    """Of the sigmoid of the logits."""
    after: CalibrationQuality
    """Of calibrated probabilities, each text's by a fit without it."""
