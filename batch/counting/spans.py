"""Counts of spans by domain, and of right ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import BaseModel, ConfigDict

from batch.counting.columns import Column
from batch.counting.groups import Counts, Groups, narrow, sum_rows
from schemas.arrays import BoolArray, Int64Array
from schemas.decision.spans import SpanHits
from schemas.kinds.base import Entity

SCORE_UNIT = 1 << 20
"""Whole number that stands for a score of 1, so that sums are the same in any order."""
SPANS, TEXTS, SCORES, RIGHT, DECIDED, GOLD = range(6)
"""Counts of a label: spans, texts with any, sum of their scores; of compared texts right spans,
all spans, and spans in gold."""


@dataclass(frozen=True)
class SpanCounts:
    """Spans of the scored rows of a chunk by domain.

    by_label: (domains, labels, 6), see SPANS to GOLD. rows: (domains, 2), texts without a span, and
    texts that are compared with gold. compared: False if the run has no gold.
    """

    by_label: Counts
    rows: Counts
    compared: bool


@dataclass(frozen=True)
class SpanTotals:
    """Spans of one domain, or of several. by_label: (labels, 6). without: texts without a span."""

    by_label: Int64Array
    without: int
    compared_rows: int | None

    @property
    def hits(self) -> SpanHits | None:
        """Right, decided and gold spans; None if nothing is compared."""
        if not self.compared_rows:
            return None
        right, decided, gold = (self.by_label[:, one] for one in (RIGHT, DECIDED, GOLD))
        return SpanHits(right, decided, gold, self.compared_rows)


def count_spans(
    groups: Groups,
    rows: Sequence[tuple[Entity, ...]],
    labels: Sequence[str],
    scored: BoolArray,
    gold: Sequence[Int64Array] | None,
    compared: BoolArray,
) -> SpanCounts:
    """Count the rows of a chunk.

    rows: spans of each. scored, compared: (rows,) bool, rows that the model has read, and rows that
    are compared with gold. gold: (spans, 3) of each row, None if the run has none.
    """
    numbers = {label: number for number, label in enumerate(labels)}
    by_label = np.zeros((len(groups.names), len(labels), 6), np.int64)
    of_rows = np.zeros((len(groups.names), 2), np.int64)
    for domain, row in zip(groups.domain.tolist(), groups.order.tolist(), strict=True):
        cells = by_label[domain]
        spans = rows[row] if scored[row] else ()
        for entity in spans:
            number = numbers[entity.label]
            cells[number, SPANS] += 1
            cells[number, SCORES] += round(entity.score * SCORE_UNIT)
        for label in {entity.label for entity in spans}:
            cells[numbers[label], TEXTS] += 1
        of_rows[domain, 0] += bool(scored[row]) and not spans
        if gold is not None and compared[row]:
            of_rows[domain, 1] += 1
            given = {(one.start, one.end, numbers[one.label]) for one in spans}
            wanted = set(map(tuple, gold[row].tolist()))
            for column, found in ((RIGHT, given & wanted), (DECIDED, given), (GOLD, wanted)):
                for _, _, number in found:
                    cells[number, column] += 1
    return SpanCounts(narrow(by_label), narrow(of_rows), compared=gold is not None)


class SpanColumns(BaseModel):
    """Columns of `SpanCounts`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    by_label: Column
    rows: Column
    compared: bool

    @classmethod
    def of(cls, counts: SpanCounts) -> SpanColumns:
        """Pack counts."""
        return cls(
            by_label=Column.of(counts.by_label),
            rows=Column.of(counts.rows),
            compared=counts.compared,
        )

    def counts(self, domains: int, labels: int) -> SpanCounts:
        """Unpack counts. Raises ValueError if a column is of another length."""
        return SpanCounts(
            self.by_label.array(domains, labels, 6), self.rows.array(domains, 2), self.compared
        )


class SpanSums:
    """Sums of span counts over chunks: a row for each chosen domain, and one for the others."""

    def __init__(self, height: int, labels: int) -> None:
        self._by_label = np.zeros((height, labels, 6), np.int64)
        self._rows = np.zeros((height, 2), np.int64)
        self._compared = False

    def add(self, counts: SpanCounts, rows: Int64Array) -> None:
        """Add the counts of a chunk. rows: (domains,), the row of each of its domains."""
        np.add.at(self._by_label, rows, counts.by_label.astype(np.int64))
        np.add.at(self._rows, rows, counts.rows.astype(np.int64))
        self._compared |= counts.compared

    def total(self, rows: int | slice) -> SpanTotals:
        """Counts of a row, or of several added up."""
        without, compared = sum_rows(self._rows, rows).tolist()
        return SpanTotals(
            sum_rows(self._by_label, rows), without, compared if self._compared else None
        )
