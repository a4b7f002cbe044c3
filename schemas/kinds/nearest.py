"""Nearest: labels by the votes of the reference texts whose vectors are nearest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from schemas.arrays import BoolArray, Float32Array
from schemas.decision.decide import Probability, decide
from schemas.decision.thresholds import ThresholdRule
from schemas.kinds.base import OutputSpec
from schemas.kinds.embedding import Pooling
from schemas.kinds.label_sets import LabelSetKind, LabelSets
from schemas.kinds.labels import check_lengths
from schemas.tasks.sections import Section, TaskOptions
from schemas.text.tokens import TokenizedText

Alignment = Literal["batch", "memory", "mixed_memory", "datapoint_memory"]
"""What a training text is compared with, where the encoder is trained."""
Pairs = Literal["all", "sampled"]
"""How much of it."""

MOST_REFERENCES = 20_000
"""Reference texts of a task at most: their vectors are part of the file, 31 MB at 384 numbers."""

VOTE_TOLERANCE = 1e-3
"""Largest difference of a share of the votes between ONNX and torch: where neighbours are hardly
nearer than the next text, votes magnify the last bits of a cosine."""


class NearestDecisionConfig(Section):
    """How votes become labels, chosen on the held-out rows when a checkpoint is exported."""

    one_label: bool = False
    """Give every text the one label with the most votes, instead of all that reach their threshold.
    """
    thresholds: ThresholdRule = ThresholdRule()
    """How thresholds are chosen; there are none with `one_label`."""

    @model_validator(mode="after")
    def _rule_has_an_effect(self) -> Self:
        if self.one_label and self.thresholds != ThresholdRule():
            raise ValueError("thresholds have no effect with one_label")
        return self


class NearestOptions(TaskOptions):
    """What only a task that is decided by nearest texts may set in the config.

    The training texts are its references. The encoder is taken as it is, or as the other tasks
    leave it, unless `alignment` trains it.
    """

    neighbours: int = Field(default=5, ge=1, le=200)
    """Reference texts that vote."""
    pooling: Pooling = "mean"
    """From the vectors of a text's tokens to one, as for the kind `embedding`."""
    layers: int = Field(default=1, ge=1)
    """Last layers of the encoder whose mean is pooled."""
    alignment: Alignment | Literal["none"] = "none"
    """Train the encoder so that texts with the same labels come together and others part. `none`:
    no training. `batch`: each text is compared with the others of its step, or of its pass where a
    step is too large for one; `memory`: with a stored vector for each label; `mixed_memory`: with
    both; `datapoint_memory`: with the last vector of every training text."""
    pairs: Pairs = "all"
    """What a text is compared with in a step: `all` texts, or one that shares a label and one that
    does not."""
    temperature: float = Field(default=0.1, gt=0.0, le=10.0)
    """Scale of the similarities in the loss of `alignment`; the lower, the more the nearest texts
    count."""
    decision: NearestDecisionConfig = NearestDecisionConfig()
    """How votes become labels."""


class NearestDecision(BaseModel):
    """Which votes give a label."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    one_label: bool
    """True where the label with the most votes is the answer, the first of equal ones."""
    thresholds: tuple[Probability, ...]
    """In label order; votes equal to their threshold give the label. Empty with `one_label`."""


class NearestEvidence(BaseModel):
    """How thresholds were chosen on the held-out texts."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    rule: ThresholdRule
    """The rule that chose the thresholds."""
    positives: tuple[int, ...]
    """Held-out texts that have each label, in label order."""


class NearestKind(LabelSetKind):
    """See `schemas.kinds.base.Kind`; gold values and columns are those of multi-label tasks."""

    NAME = "nearest"
    HAS_REFERENCES = True
    Options = NearestOptions
    Decision = NearestDecision
    Evidence = NearestEvidence

    def output(self, width: int) -> OutputSpec:
        """Share of the votes, (rows, labels); named as the output of every kind with labels."""
        return OutputSpec("logits", width, tolerance=VOTE_TOLERANCE)

    def check(self, labels: Sequence[str], decision: NearestDecision) -> None:
        """Raise ValueError unless there is one threshold a label, where there are any."""
        if not decision.one_label:
            check_lengths({"thresholds": decision.thresholds}, labels)

    def check_evidence(self, labels: Sequence[str], evidence: BaseModel) -> None:
        """Raise ValueError unless there is one count a label."""
        assert isinstance(evidence, NearestEvidence)
        check_lengths({"evidence.positives": evidence.positives}, labels)

    def decide(
        self,
        outputs: Sequence[Float32Array],
        labels: tuple[str, ...],
        decision: NearestDecision,
        texts: Sequence[TokenizedText],
    ) -> LabelSets:
        """Mark the label with the most votes, or those that reach their threshold.

        outputs: votes of each text, (labels,) float32.
        """
        raw = np.stack(outputs) if len(outputs) else np.zeros((0, len(labels)), np.float32)
        votes = np.clip(raw, 0.0, 1.0)
        if decision.one_label:
            return LabelSets(labels, votes, most_votes(votes))
        thresholds = np.asarray(decision.thresholds, np.float32)
        return LabelSets(labels, votes, decide(votes, thresholds))


def most_votes(votes: Float32Array) -> BoolArray:
    """(rows, labels) True for the label with the most votes, the first of equal ones."""
    first = votes.argmax(axis=1) if votes.shape[1] else np.zeros(len(votes), np.int64)
    return np.asarray(first[:, None] == np.arange(votes.shape[1]))
