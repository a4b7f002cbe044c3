"""Multiclass: one label a row, a calibrated softmax."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Self

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, Field, model_validator

from schemas.arrays import BoolArray, Float32Array, Int64Array
from schemas.decision.classes import (
    NO_CLASS,
    ClassDecision,
    ClassDecisionConfig,
    ClassDecisionEvidence,
    ClassScores,
    Confusion,
    class_probabilities,
    decide_class,
)
from schemas.errors import listing
from schemas.kinds.base import Answer, OutputSpec
from schemas.kinds.labels import check_label_names, check_lengths
from schemas.tables import (
    LABEL,
    PROBABILITIES,
    ProbabilityFormat,
    probability_column,
    probability_type,
)
from schemas.tasks.parents import Parents
from schemas.tasks.sections import HeadKind, HeadStart, Sampling, Section, TaskOptions
from schemas.text.arrow_text import BadText, holds_labels, label_lists
from schemas.text.tokens import TokenizedText


class ClassLossConfig(Section):
    """Which loss a task is trained with."""

    name: Literal["ce", "weighted-ce", "focal-ce"] = "ce"
    """`ce`: softmax cross-entropy. `weighted-ce`: the same, rare classes weighted up. `focal-ce`:
    softmax focal loss."""
    parameters: dict[str, float | str] = Field(default_factory=dict)
    """Parameters of that loss that differ from its defaults, see
    `trainer.losses.softmax.make_class_loss`."""


class MulticlassOptions(TaskOptions):
    """What only a task with one label a row may set in the config."""

    head: HeadKind = "label_attention"
    """`mean`: a linear layer over the mean of the tokens. `label_attention`: beside that, each
    label looks at the tokens that speak for it."""
    head_start: HeadStart = "names"
    """What a `label_attention` head begins with. `names`: each label looks for what the encoder
    makes of its name. `random`: small random weights. The bias always
    starts from the frequency of the label."""
    label_names: dict[str, str] = Field(default_factory=dict)
    """Words for labels whose own name does not say what they are, as in `pos = "positive"`; heads
    start from them. Without it the name itself, `-` and `_` read as spaces."""
    lexical_features: bool = True
    """Add to the head what single tokens and pairs of them say by themselves: a linear support
    vector machine over their TF-IDF, trained in seconds after the encoder, and weighted by the
    held-out rows. Helps most where labels have few rows. Adds 4 bytes to the file for each label
    and feature; there are at most 20,000 features."""
    loss: ClassLossConfig = ClassLossConfig()
    """Training loss."""
    sampling: Sampling = "none"
    """How often rows come up in an epoch: `none` once; `repeat_factor` those with a rare label more
    often, so that epochs grow longer; `class_aware` so that every label comes up equally often."""
    sampling_threshold: float = Field(default=0.01, gt=0.0, le=1.0)
    """Share of the training rows below which `repeat_factor` repeats a label."""
    decision: ClassDecisionConfig = ClassDecisionConfig()
    """Calibration, and the least probability of a label."""

    @model_validator(mode="after")
    def _names_are_of_labels(self) -> Self:
        check_label_names(self.label_names, getattr(self, "labels", None))
        return self


@dataclass(frozen=True)
class Classes:
    """Answers of a task with one label a row.

    labels: of the task. probabilities: (rows, labels) float32. decided: (rows,) int64, the number
    of the label, NO_CLASS for none.
    """

    labels: tuple[str, ...]
    probabilities: Float32Array
    decided: Int64Array

    def __len__(self) -> int:
        return len(self.decided)

    def take(self, rows: Int64Array) -> Self:
        """Answers of the given rows; -1 gives no label and probabilities of 0."""
        is_answer = rows >= 0
        probabilities = np.zeros((len(rows), len(self.labels)), np.float32)
        decided = np.full(len(rows), NO_CLASS, np.int64)
        probabilities[is_answer] = self.probabilities[rows[is_answer]]
        decided[is_answer] = self.decided[rows[is_answer]]
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
        """Labels, null for none, and probabilities unless they are left out."""
        has_label = is_answered & (self.decided != NO_CLASS)
        names = pa.array(self.labels, pa.string())
        columns = [names.take(pa.array(self.decided, mask=~has_label))]
        if form != "none":
            columns.append(probability_column(self.probabilities, self.labels, is_answered, form))
        return columns

    def changed(self, other: Self) -> BoolArray:
        """(rows, 1) decisions that differ."""
        return np.asarray(self.decided != other.decided)[:, None]

    def answers(self) -> list[Answer]:
        """Label and probabilities of each row."""
        return [
            Answer(
                labels=() if number == NO_CLASS else (self.labels[number],),
                probabilities=dict(zip(self.labels, probabilities.tolist(), strict=True)),
            )
            for number, probabilities in zip(self.decided.tolist(), self.probabilities, strict=True)
        ]

    @property
    def one_hot(self) -> BoolArray:
        """(rows, labels) bool, at most one a row."""
        return one_hot(self.decided, len(self.labels))


class MulticlassKind:
    """See `schemas.kinds.base.Kind`."""

    NAME = "multiclass"
    HAS_LABELS = True
    NEEDS_WORDS = False
    HAS_REFERENCES = False
    GOLD_TYPES = "a string or a list of one string"
    Options = MulticlassOptions
    Decision = ClassDecision
    Evidence = ClassDecisionEvidence
    Scores = ClassScores

    def output(self, width: int) -> OutputSpec:
        """Logits, (rows, labels)."""
        return OutputSpec("logits", width)

    def width(self, labels: Sequence[str], decision: BaseModel) -> int:
        """One logit a label."""
        return len(labels)

    def check(self, labels: Sequence[str], decision: ClassDecision) -> None:
        """Raise ValueError unless there is one value a label."""
        check_lengths(
            {
                "calibration.scale": decision.calibration.scale,
                "calibration.bias": decision.calibration.bias,
            },
            labels,
        )

    def check_evidence(self, labels: Sequence[str], evidence: BaseModel) -> None:
        """Raise ValueError unless there is one value a label."""
        assert isinstance(evidence, ClassDecisionEvidence)
        check_lengths(
            {
                "evidence.positives": evidence.positives,
                "evidence.before.ece": evidence.before.ece,
                "evidence.before.brier": evidence.before.brier,
                "evidence.after.ece": evidence.after.ece,
                "evidence.after.brier": evidence.after.brier,
            },
            labels,
        )

    def fields(
        self, labels: tuple[str, ...], width: int, form: ProbabilityFormat
    ) -> list[pa.Field]:
        """`label`, and `probabilities` unless they are left out."""
        fields = [pa.field(LABEL, pa.string())]
        if form != "none":
            fields.append(pa.field(PROBABILITIES, probability_type(labels, form)))
        return fields

    def accepts_gold(self, column_type: pa.DataType) -> bool:
        """True for text and lists of text."""
        return holds_labels(column_type)

    def read_gold(self, column: pa.Array) -> list[str | None]:
        """Label of each row; None for a null, a blank string or an empty list.

        A BadText for a list with several labels.
        """
        return [_only_label(labels) for labels in label_lists(column)]

    def gold_labels(self, gold: str) -> Sequence[str]:
        """The one label, if there is one."""
        return (gold,) if gold else ()

    def gold_problem(self, gold: str, text: str) -> None:
        """None: a label fits every text."""

    def empty_gold(self) -> str:
        """A row without a label."""
        return ""

    def only_known(self, gold: str, known: Collection[str]) -> str | None:
        """The label if it is known."""
        return gold if gold in known else None

    def complete(self, gold: str, parents: Parents) -> str:
        """The value itself: no row has two labels."""
        return gold

    def encode(self, gold: Sequence[str], labels: tuple[str, ...]) -> Int64Array:
        """(rows,) int64, the number of the label, NO_CLASS for one that is not in `labels`."""
        numbers = {label: number for number, label in enumerate(labels)}
        return np.array([numbers.get(label, NO_CLASS) for label in gold], dtype=np.int64)

    def decide(
        self,
        outputs: Sequence[Float32Array],
        labels: tuple[str, ...],
        decision: ClassDecision,
        texts: Sequence[TokenizedText],
    ) -> Classes:
        """Calibrate, and take the most probable label if it is probable enough.

        outputs: logits of each text, (labels,) float32.
        """
        logits = np.stack(outputs) if len(outputs) else np.zeros((0, len(labels)), np.float32)
        probabilities = class_probabilities(logits, decision.calibration)
        return Classes(
            labels, probabilities, decide_class(probabilities, decision.least_probability)
        )

    def compare(self, targets: Int64Array, decided: Classes) -> Confusion:
        """Rows by gold and decided label; targets: (rows,) int64."""
        return Confusion.count(targets, decided.decided, len(decided.labels))


def _only_label(labels: Sequence[str] | None) -> str | None:
    if not labels:
        return None
    if len(labels) > 1:
        return BadText(f"{len(labels)} labels, expected one: {listing(labels, 3)}")
    return labels[0]


def one_hot(numbers: Int64Array, labels: int) -> BoolArray:
    """(rows,) label numbers to (rows, labels) bool; NO_CLASS is a row of False."""
    return np.asarray(numbers[:, None] == np.arange(labels))
