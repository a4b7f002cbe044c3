"""Label counts of a chunk as in its marker, and their sums over chunks."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from pydantic import BaseModel, ConfigDict

from batch.counting.columns import Column
from batch.counting.groups import add_cells, add_rows, sum_rows
from batch.counting.labels import (
    MOST_LABELS_A_ROW,
    PROBABILITY_BINS,
    HitCounts,
    LabelCounts,
    LevelCounts,
)
from schemas.arrays import Int64Array
from schemas.decision.metrics import Hits, LevelHits


@dataclass(frozen=True)
class LabelTotals:
    """Labels of the scored rows of one domain, or of several; see `LabelCounts`.

    labels_a_row: (6,) int64. label_counts: (labels,) int64. probability_sum: (labels,) int64, in
    millionths. probability_histogram: (labels, 20) int64. hits: None if there was no gold at all.
    """

    labels_a_row: Int64Array
    label_counts: Int64Array
    probability_sum: Int64Array
    probability_histogram: Int64Array
    hits: Hits | None


class LevelColumns(BaseModel):
    """Columns of `LevelCounts`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    fine: list[int]
    exact_rows: Column
    samples_f1_sum: Column

    @classmethod
    def of(cls, levels: LevelCounts) -> LevelColumns:
        """Pack counts by level."""
        return cls(
            fine=list(levels.fine),
            exact_rows=Column.of(levels.exact_rows),
            samples_f1_sum=Column.of_floats(levels.samples_f1_sum),
        )

    def counts(self, domains: int, labels: int) -> LevelCounts:
        """Unpack counts by level. Raises ValueError if they do not fit domains and labels."""
        sums = self.samples_f1_sum.floats()
        columns = set(self.fine)
        if len(sums) != 2 * domains or not columns < set(range(labels)) or not columns:
            raise ValueError("statistics of a marker do not fit its domains and labels")
        return LevelCounts(
            fine=tuple(self.fine),
            exact_rows=self.exact_rows.array(domains, 2),
            samples_f1_sum=sums.reshape(domains, 2),
        )


class HitColumns(BaseModel):
    """Columns of `HitCounts`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    true_positives: Column
    false_positives: Column
    false_negatives: Column
    rows: Column
    samples_f1_sum: Column
    levels: LevelColumns | None = None

    @classmethod
    def of(cls, hits: HitCounts) -> HitColumns:
        """Pack hits."""
        return cls(
            true_positives=Column.of(hits.true_positives),
            false_positives=Column.of(hits.false_positives),
            false_negatives=Column.of(hits.false_negatives),
            rows=Column.of(hits.rows),
            samples_f1_sum=Column.of_floats(hits.samples_f1_sum),
            levels=None if hits.levels is None else LevelColumns.of(hits.levels),
        )

    def hits(self, domains: int, labels: int) -> HitCounts:
        """Unpack hits. Raises ValueError if a column is of another length."""
        sums = self.samples_f1_sum.floats()
        if len(sums) != domains:
            raise ValueError("statistics of a marker do not fit its domains and labels")
        return HitCounts(
            true_positives=self.true_positives.array(domains, labels),
            false_positives=self.false_positives.array(domains, labels),
            false_negatives=self.false_negatives.array(domains, labels),
            rows=self.rows.array(domains, 2),
            samples_f1_sum=sums,
            levels=None if self.levels is None else self.levels.counts(domains, labels),
        )


class LabelColumns(BaseModel):
    """Columns of `LabelCounts`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    labels_a_row: Column
    label_counts: Column
    probability_sum: Column
    probability_histogram: Column
    hits: HitColumns | None = None

    @classmethod
    def of(cls, counts: LabelCounts) -> LabelColumns:
        """Pack counts."""
        return cls(
            labels_a_row=Column.of(counts.labels_a_row),
            label_counts=Column.of(counts.label_counts),
            probability_sum=Column.of(counts.probability_sum),
            probability_histogram=Column.of_cells(counts.probability_histogram),
            hits=None if counts.hits is None else HitColumns.of(counts.hits),
        )

    def counts(self, domains: int, labels: int) -> LabelCounts:
        """Unpack counts. Raises ValueError if a column is of another length."""
        return LabelCounts(
            labels_a_row=self.labels_a_row.array(domains, MOST_LABELS_A_ROW + 1),
            label_counts=self.label_counts.array(domains, labels),
            probability_sum=self.probability_sum.array(domains, labels),
            probability_histogram=self.probability_histogram.cells(
                domains * labels * PROBABILITY_BINS
            ),
            hits=None if self.hits is None else self.hits.hits(domains, labels),
        )


class LabelSums:
    """Sums of label counts over chunks: a row for each chosen domain, and one for the others."""

    def __init__(self, height: int, labels: int) -> None:
        self._labels = labels
        self._labels_a_row = np.zeros((height, MOST_LABELS_A_ROW + 1), np.int64)
        self._label_counts = np.zeros((height, labels), np.int64)
        self._probability_sum = np.zeros((height, labels), np.int64)
        self._probability_histogram = np.zeros((height, labels * PROBABILITY_BINS), np.int64)
        self._hits = np.zeros((3, height, labels), np.int64)
        self._hit_rows = np.zeros((height, 2), np.int64)
        self._samples_f1_sum = np.zeros(height, np.float64)
        self._has_gold = False
        self._levels = _LevelSums(height)

    def add(self, counts: LabelCounts, rows: Int64Array) -> None:
        """Add the counts of a chunk. rows: (domains,), the row of each of its domains."""
        for total, of_chunk in (
            (self._labels_a_row, counts.labels_a_row),
            (self._label_counts, counts.label_counts),
            (self._probability_sum, counts.probability_sum),
        ):
            add_rows(total, of_chunk, rows)
        add_cells(self._probability_histogram, counts.probability_histogram, rows)
        if counts.hits is None:
            return
        self._has_gold = True
        hits = counts.hits
        compared = (hits.true_positives, hits.false_positives, hits.false_negatives)
        for total, of_chunk in zip(self._hits, compared, strict=True):
            add_rows(total, of_chunk, rows)
        add_rows(self._hit_rows, hits.rows, rows)
        np.add.at(self._samples_f1_sum, rows, hits.samples_f1_sum)
        if hits.levels is not None:
            self._levels.add(hits.levels, rows)

    def total(self, rows: int | slice) -> LabelTotals:
        """Counts of a row, or of several added up."""
        histogram = sum_rows(self._probability_histogram, rows)
        return LabelTotals(
            labels_a_row=sum_rows(self._labels_a_row, rows),
            label_counts=sum_rows(self._label_counts, rows),
            probability_sum=sum_rows(self._probability_sum, rows),
            probability_histogram=histogram.reshape(self._labels, PROBABILITY_BINS),
            hits=self._hits_of(rows) if self._has_gold else None,
        )

    def _hits_of(self, rows: int | slice) -> Hits:
        compared, exact = sum_rows(self._hit_rows, rows).tolist()
        hits = Hits(
            true_positives=sum_rows(self._hits[0], rows),
            false_positives=sum_rows(self._hits[1], rows),
            false_negatives=sum_rows(self._hits[2], rows),
            rows=compared,
            exact_rows=exact,
            samples_f1_sum=float(np.sum(self._samples_f1_sum[rows])),
        )
        return replace(hits, levels=self._levels.of(hits, rows))


class _LevelSums:
    """Sums of comparisons by level, in the rows of `LabelSums`; nothing for labels of one level."""

    def __init__(self, height: int) -> None:
        self._fine: tuple[int, ...] = ()
        self._exact_rows = np.zeros((height, 2), np.int64)
        self._samples_f1_sum = np.zeros((height, 2), np.float64)

    def add(self, levels: LevelCounts, rows: Int64Array) -> None:
        """Add a chunk. Raises ValueError if its labels have other levels."""
        if self._fine not in ((), levels.fine):
            raise ValueError("statistics of a marker are of other levels of labels")
        self._fine = levels.fine
        add_rows(self._exact_rows, levels.exact_rows, rows)
        np.add.at(self._samples_f1_sum, rows, levels.samples_f1_sum)

    def of(self, hits: Hits, rows: int | slice) -> LevelHits | None:
        """Comparison by level of a row, or of several. hits: of the same rows, of all labels."""
        if not self._fine:
            return None
        is_fine = np.isin(np.arange(len(hits.true_positives)), self._fine)
        exact = sum_rows(self._exact_rows, rows).tolist()
        samples_f1 = np.atleast_2d(self._samples_f1_sum[rows]).sum(axis=0).tolist()
        coarse, fine = (
            Hits(
                true_positives=hits.true_positives[of_level],
                false_positives=hits.false_positives[of_level],
                false_negatives=hits.false_negatives[of_level],
                rows=hits.rows,
                exact_rows=exact[level],
                samples_f1_sum=samples_f1[level],
            )
            for level, of_level in enumerate((~is_fine, is_fine))
        )
        return LevelHits(coarse, fine)
