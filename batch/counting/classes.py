"""Counts of classes by domain, and of gold classes by decided ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from pydantic import BaseModel, ConfigDict

from batch.counting.columns import Column
from batch.counting.groups import Cells, Groups, add_cells, narrow, sum_rows
from batch.counting.label_sums import LabelColumns, LabelSums, LabelTotals
from batch.counting.labels import LabelCounts, count_label_rows
from schemas.arrays import BoolArray, Float32Array, Int64Array
from schemas.decision.classes import NO_CLASS

MOST_CONFUSED = 200
"""Classes up to which rows are counted by gold and decided class; the table grows with the square
of the classes."""


@dataclass(frozen=True)
class ClassCounts:
    """Classes of the scored rows of a chunk by domain.

    labels: as of labels that exclude each other.
    confusion: compared rows of (domains, classes, classes + 1), gold by decided, the last for no
    class; None without gold, or with more than MOST_CONFUSED classes.
    """

    labels: LabelCounts
    confusion: Cells | None


@dataclass(frozen=True)
class ClassTotals:
    """Classes of one domain, or of several. confusion: (classes, classes + 1) int64."""

    labels: LabelTotals
    confusion: Int64Array | None


def count_class_rows(
    groups: Groups,
    *,
    probabilities: Float32Array,
    decided: Int64Array,
    scored: BoolArray,
    gold: Int64Array | None,
    compared: BoolArray,
) -> ClassCounts:
    """Count the rows of a chunk.

    probabilities: (rows, classes) float32. decided, gold: (rows,) int64, NO_CLASS for none; gold is
    None if the run has none. scored, compared: (rows,) bool, rows that the model has read, and rows
    that are compared with gold.
    """
    classes = probabilities.shape[1]
    numbers = np.arange(classes)
    counts = count_label_rows(
        groups,
        probabilities=probabilities,
        decided=decided[:, None] == numbers,
        scored=scored,
        gold=None if gold is None else gold[:, None] == numbers,
        compared=compared,
    )
    confusion = None
    if gold is not None and classes <= MOST_CONFUSED:
        given = np.where(scored & (decided != NO_CLASS), decided, classes)
        counted = (compared & (gold != NO_CLASS))[groups.order]
        cell = (gold * (classes + 1) + given)[groups.order][counted]
        flat = groups.domain[counted] * (classes * (classes + 1)) + cell
        positions, rows = np.unique(flat, return_counts=True)
        confusion = Cells(positions.astype(np.int64), narrow(rows))
    return ClassCounts(counts, confusion)


class ClassColumns(BaseModel):
    """Columns of `ClassCounts`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    labels: LabelColumns
    confusion: Column | None = None

    @classmethod
    def of(cls, counts: ClassCounts) -> ClassColumns:
        """Pack counts."""
        confusion = None if counts.confusion is None else Column.of_cells(counts.confusion)
        return cls(labels=LabelColumns.of(counts.labels), confusion=confusion)

    def counts(self, domains: int, classes: int) -> ClassCounts:
        """Unpack counts. Raises ValueError if a column is of another length."""
        cells = None
        if self.confusion is not None:
            cells = self.confusion.cells(domains * classes * (classes + 1))
        return ClassCounts(self.labels.counts(domains, classes), cells)


class ClassSums:
    """Sums of class counts over chunks: a row for each chosen domain, and one for the others."""

    def __init__(self, height: int, classes: int) -> None:
        self._classes = classes
        self._labels = LabelSums(height, classes)
        self._confusion: Int64Array | None = None
        self._shape = (height, classes * (classes + 1))

    def add(self, counts: ClassCounts, rows: Int64Array) -> None:
        """Add the counts of a chunk. rows: (domains,), the row of each of its domains."""
        self._labels.add(counts.labels, rows)
        if counts.confusion is not None:
            if self._confusion is None:
                self._confusion = np.zeros(self._shape, np.int64)
            add_cells(self._confusion, counts.confusion, rows)

    def total(self, rows: int | slice) -> ClassTotals:
        """Counts of a row, or of several added up."""
        confusion = None
        if self._confusion is not None:
            flat = sum_rows(self._confusion, rows)
            confusion = flat.reshape(self._classes, self._classes + 1)
        return ClassTotals(self._labels.total(rows), confusion)
