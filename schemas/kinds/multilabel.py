"""Multilabel: any number of labels a row, a calibrated sigmoid and a threshold each."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, model_validator

from schemas.arrays import BoolArray, Float32Array, Int64Array
from schemas.decision.decide import Calibration, Probability, calibrate, decide
from schemas.decision.metrics import Hits, LabelScores
from schemas.decision.settings import DecisionConfig, DecisionEvidence
from schemas.kinds.base import Answer, OutputSpec
from schemas.kinds.labels import check_label_names, check_lengths
from schemas.tables import (
    LABELS,
    PROBABILITIES,
    ProbabilityFormat,
    probability_column,
    probability_type,
)
from schemas.tasks.sections import HeadKind, HeadStart, LossConfig, Sampling, TaskOptions
from schemas.tasks.task import label_matrix
from schemas.text.arrow_text import holds_labels, label_lists
from schemas.text.tokens import TokenizedText


class MultilabelOptions(TaskOptions):
    """What only a multi-label task may set in the config."""

    head: HeadKind = "label_attention"
    """`mean`: a linear layer over the mean of the tokens. `label_attention`: beside that, each
    label looks at the tokens that speak for it."""
    head_start: HeadStart = "names"
    """What a `label_attention` head begins with. `names`: each label looks for what the encoder
    makes of its name, so that a label with three training rows does not start from nothing.
    `random`: small random weights."""
    label_names: dict[str, str] = Field(default_factory=dict)
    """Words for labels whose own name does not say what they are, as in `dlr = "US dollar"`; heads
    start from them. Without it the name itself, `-` and `_` read as spaces."""
    loss: LossConfig = LossConfig()
    """Training loss."""
    sampling: Sampling = "none"
    """How often rows come up in an epoch: `none` once; `repeat_factor` those with a rare label more
    often, so that epochs grow longer; `class_aware` so that every label comes up equally often,
    which leaves out rows of frequent ones. The loss keeps to the counts of the data."""
    sampling_threshold: float = Field(default=0.01, gt=0.0, le=1.0)
    """Share of the training rows below which `repeat_factor` repeats a label: one with a quarter of
    that share comes up twice as often. In 10,000 rows the default repeats labels of fewer than 100,
    as many as the published 0.001 does in 100,000 images."""
    decision: DecisionConfig = DecisionConfig()
    """Calibration and thresholds."""

    @model_validator(mode="after")
    def _names_are_of_labels(self) -> Self:
        check_label_names(self.label_names, getattr(self, "labels", None))
        return self


class MultilabelDecision(BaseModel):
    """Calibration, and the threshold of each label."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    thresholds: tuple[Probability, ...]
    """In label order; a probability equal to its threshold is positive."""
    calibration: Calibration

    @property
    def threshold_array(self) -> Float32Array:
        """(labels,) float32."""
        return np.asarray(self.thresholds, dtype=np.float32)


@dataclass(frozen=True)
class LabelSets:
    """Answers of a multi-label task.

    labels: of the task. probabilities: (rows, labels) float32. decided: (rows, labels) bool.
    """

    labels: tuple[str, ...]
    probabilities: Float32Array
    decided: BoolArray

    def __len__(self) -> int:
        return len(self.decided)

    def take(self, rows: Int64Array) -> Self:
        """Answers of the given rows; -1 gives no label and probabilities of 0."""
        empty = rows < 0
        shape = (len(rows), len(self.labels))
        probabilities, decided = np.zeros(shape, np.float32), np.zeros(shape, np.bool_)
        probabilities[~empty] = self.probabilities[rows[~empty]]
        decided[~empty] = self.decided[rows[~empty]]
        return replace(self, probabilities=probabilities, decided=decided)

    def followed_by(self, others: Sequence[Self]) -> Self:
        """These answers and then those of the others."""
        parts = (self, *others)
        return replace(
            self,
            probabilities=np.concatenate([part.probabilities for part in parts]),
            decided=np.concatenate([part.decided for part in parts]),
        )

    def columns(self, is_answered: BoolArray, form: ProbabilityFormat) -> list[pa.Array]:
        """Label lists, and probabilities unless they are left out."""
        columns = [label_lists_column(self.decided & is_answered[:, None], self.labels)]
        if form != "none":
            columns.append(probability_column(self.probabilities, self.labels, is_answered, form))
        return columns

    def changed(self, other: Self) -> BoolArray:
        """(rows, labels) decisions that differ."""
        return np.asarray(self.decided != other.decided)

    def answers(self) -> list[Answer]:
        """Labels and probabilities of each row."""
        return [
            Answer(
                labels=tuple(label for label, on in zip(self.labels, row, strict=True) if on),
                probabilities=dict(zip(self.labels, probabilities.tolist(), strict=True)),
            )
            for row, probabilities in zip(self.decided, self.probabilities, strict=True)
        ]


class MultilabelKind:
    """See `schemas.kinds.base.Kind`."""

    NAME = "multilabel"
    HAS_LABELS = True
    GOLD_TYPES = "a list of strings or a string"
    Options = MultilabelOptions
    Decision = MultilabelDecision
    Evidence = DecisionEvidence
    Scores = LabelScores

    def output(self, width: int) -> OutputSpec:
        """Logits, (rows, labels)."""
        return OutputSpec("logits", width)

    def width(self, labels: Sequence[str], decision: BaseModel) -> int:
        """One logit a label."""
        return len(labels)

    def check(
        self, labels: Sequence[str], decision: MultilabelDecision, evidence: BaseModel
    ) -> None:
        """Raise ValueError unless there is one value a label."""
        assert isinstance(evidence, DecisionEvidence)
        values_by_name: dict[str, Sequence[object]] = {
            "thresholds": decision.thresholds,
            "calibration.scale": decision.calibration.scale,
            "calibration.bias": decision.calibration.bias,
            "evidence.intervals": evidence.intervals,
            "evidence.positives": evidence.positives,
            "evidence.before.ece": evidence.before.ece,
            "evidence.before.brier": evidence.before.brier,
            "evidence.after.ece": evidence.after.ece,
            "evidence.after.brier": evidence.after.brier,
        }
        if decision.calibration.method == "isotonic":
            values_by_name["calibration.knots"] = decision.calibration.knots
        check_lengths(values_by_name, labels)

    def fields(
        self, labels: tuple[str, ...], width: int, form: ProbabilityFormat
    ) -> list[pa.Field]:
        """`labels`, and `probabilities` unless they are left out."""
        fields = [pa.field(LABELS, pa.list_(pa.string()))]
        if form != "none":
            fields.append(pa.field(PROBABILITIES, probability_type(labels, form)))
        return fields

    def accepts_gold(self, column_type: pa.DataType) -> bool:
        """True for text and lists of text."""
        return holds_labels(column_type)

    def read_gold(self, column: pa.Array) -> list[list[str] | None]:
        """Labels of each row."""
        return label_lists(column)

    def gold_labels(self, gold: list[str]) -> Sequence[str]:
        """The labels themselves."""
        return gold

    def empty_gold(self) -> list[str]:
        """A row to which no label applies."""
        return []

    def only_known(self, gold: list[str], known: Collection[str]) -> list[str] | None:
        """Known labels; None for a row that has only others."""
        kept = [label for label in gold if label in known]
        return kept if kept or not gold else None

    def encode(self, gold: Sequence[list[str]], labels: tuple[str, ...]) -> BoolArray:
        """(rows, labels) bool."""
        return label_matrix(gold, labels, source="gold", ignore_unknown=True)

    def decide(
        self,
        outputs: Sequence[Float32Array],
        labels: tuple[str, ...],
        decision: MultilabelDecision,
        texts: Sequence[TokenizedText],
    ) -> LabelSets:
        """Calibrate, and mark the labels that reach their threshold.

        outputs: logits of each text, (labels,) float32.
        """
        logits = np.stack(outputs) if len(outputs) else np.zeros((0, len(labels)), np.float32)
        probabilities = calibrate(logits, decision.calibration)
        return LabelSets(labels, probabilities, decide(probabilities, decision.threshold_array))

    def compare(self, targets: BoolArray, decided: LabelSets) -> Hits:
        """Hits and misses of each label; targets: (rows, labels) bool."""
        return Hits.count(targets, decided.decided)


def label_lists_column(decided: BoolArray, labels: tuple[str, ...]) -> pa.Array:
    """(rows, labels) bool to a list of label names a row, in label order."""
    offsets = np.concatenate([[0], decided.sum(axis=1).cumsum()]).astype(np.int32)
    names = pa.array(labels, pa.string()).take(pa.array(np.nonzero(decided)[1]))
    return pa.ListArray.from_arrays(pa.array(offsets), names)
