"""What kinds that give a row any number of labels share: gold values, answers and columns."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import pyarrow as pa
from pydantic import BaseModel

from schemas.arrays import BoolArray, Float32Array, Int64Array
from schemas.decision.levels import ONE_LEVEL, LabelTree
from schemas.decision.metrics import Hits, LabelScores
from schemas.kinds.base import Answer
from schemas.tables import (
    LABELS,
    PROBABILITIES,
    ProbabilityFormat,
    probability_column,
    probability_type,
)
from schemas.tasks.parents import Parents, with_parents
from schemas.tasks.task import label_matrix
from schemas.text.arrow_text import holds_labels, label_lists


@dataclass(frozen=True)
class LabelSets:
    """Answers of a multi-label task.

    labels: of the task. probabilities: (rows, labels) float32. decided: (rows, labels) bool.
    tree: of the labels, for scores by level.
    """

    labels: tuple[str, ...]
    probabilities: Float32Array
    decided: BoolArray
    tree: LabelTree = ONE_LEVEL

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


class LabelSetKind:
    """The part of `schemas.kinds.base.Kind` that does not depend on how labels are decided."""

    HAS_LABELS = True
    NEEDS_WORDS = False
    HAS_REFERENCES = False
    GOLD_TYPES = "a list of strings or a string"
    Scores = LabelScores

    def width(self, labels: Sequence[str], decision: BaseModel) -> int:
        """One logit a label."""
        return len(labels)

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

    def gold_problem(self, gold: list[str], text: str) -> None:
        """None: labels fit every text."""

    def empty_gold(self) -> list[str]:
        """A row to which no label applies."""
        return []

    def only_known(self, gold: list[str], known: Collection[str]) -> list[str] | None:
        """Known labels; None for a row that has only others."""
        kept = [label for label in gold if label in known]
        return kept if kept or not gold else None

    def complete(self, gold: list[str], parents: Parents) -> list[str]:
        """Labels and their parents."""
        return with_parents(gold, parents)

    def encode(self, gold: Sequence[list[str]], labels: tuple[str, ...]) -> BoolArray:
        """(rows, labels) bool."""
        return label_matrix(gold, labels, source="gold", ignore_unknown=True)

    def compare(self, targets: BoolArray, decided: LabelSets) -> Hits:
        """Hits and misses of each label; targets: (rows, labels) bool."""
        return Hits.count(targets, decided.decided, decided.tree)


def label_lists_column(decided: BoolArray, labels: tuple[str, ...]) -> pa.Array:
    """(rows, labels) bool to a list of label names a row, in label order."""
    offsets = np.concatenate([[0], decided.sum(axis=1).cumsum()]).astype(np.int32)
    names = pa.array(labels, pa.string()).take(pa.array(np.nonzero(decided)[1]))
    return pa.ListArray.from_arrays(pa.array(offsets), names)
