"""Statistics of all chunks: of the whole corpus, of its largest domains, and of the others as one.

Memory is bounded by the domains that are described one by one, however many there are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from batch.report.counting import (
    MOST_LABELS_A_ROW,
    PROBABILITY_BINS,
    TOKEN_EDGES,
    TOTALS,
    Cells,
    ChunkStats,
    Counts,
)
from batch.report.domains import DomainRanking, most_domains
from batch.report.stats import RunStats
from schemas.arrays import Int64Array
from schemas.decision.metrics import Hits


@dataclass(frozen=True)
class DomainStats:
    """Counts of the rows of one domain, or of several; see `ChunkStats`.

    token_histogram: (9,) int64. labels_a_row: (6,) int64. label_counts: (labels,) int64.
    probability_sum: (labels,) int64, in millionths. probability_histogram: (labels, 20) int64.
    hits: None if there was no gold at all.
    """

    rows: int
    ok: int
    truncated: int
    empty: int
    quarantined: int
    tokens: int
    token_histogram: Int64Array
    labels_a_row: Int64Array
    label_counts: Int64Array
    probability_sum: Int64Array
    probability_histogram: Int64Array
    hits: Hits | None

    @property
    def scored(self) -> int:
        """Rows that the model has read: ok and truncated."""
        return self.ok + self.truncated


@dataclass(frozen=True)
class OtherDomains:
    """Domains that are not described one by one, together.

    domains: how many. is_exact: False if that is an estimate.
    """

    domains: int
    is_exact: bool
    stats: DomainStats


@dataclass(frozen=True)
class TaskStats:
    """Statistics of all chunks for one task.

    total: of every row. domains: the largest, by name. others: None if there are no others.
    """

    total: DomainStats
    domains: dict[str, DomainStats]
    others: OtherDomains | None


@dataclass(frozen=True)
class MergedStats:
    """Statistics of all chunks by task."""

    tasks: dict[str, TaskStats]


class TaskSum:
    """Sums over the chunks of one task: a row for each chosen domain, and one for the others."""

    def __init__(self, names: Sequence[str], labels: int) -> None:
        self._names = tuple(names)
        self._rows = {name: row for row, name in enumerate(names)}
        self._labels, height = labels, len(names) + 1
        self._totals = np.zeros((height, len(TOTALS)), np.int64)
        self._token_histogram = np.zeros((height, len(TOKEN_EDGES) + 1), np.int64)
        self._labels_a_row = np.zeros((height, MOST_LABELS_A_ROW + 1), np.int64)
        self._label_counts = np.zeros((height, labels), np.int64)
        self._probability_sum = np.zeros((height, labels), np.int64)
        self._probability_histogram = np.zeros((height, labels * PROBABILITY_BINS), np.int64)
        self._hits = np.zeros((3, height, labels), np.int64)
        self._hit_rows = np.zeros((height, 2), np.int64)
        self._samples_f1_sum = np.zeros(height, np.float64)
        self._has_gold = False

    def add(self, chunk: ChunkStats) -> None:
        """Add a chunk. Raises ValueError if it has another number of labels."""
        if chunk.labels != self._labels:
            raise ValueError(f"statistics have {chunk.labels} labels, others {self._labels}")
        others = len(self._names)
        rows = np.array([self._rows.get(name, others) for name in chunk.names], np.int64)
        for total, counts in (
            (self._totals, chunk.totals),
            (self._token_histogram, chunk.token_histogram),
            (self._labels_a_row, chunk.labels_a_row),
            (self._label_counts, chunk.label_counts),
            (self._probability_sum, chunk.probability_sum),
        ):
            _add_rows(total, counts, rows)
        _add_cells(self._probability_histogram, chunk.probability_histogram, rows)
        if chunk.hits is None:
            return
        self._has_gold = True
        hits = chunk.hits
        compared = (hits.true_positives, hits.false_positives, hits.false_negatives)
        for total, counts in zip(self._hits, compared, strict=True):
            _add_rows(total, counts, rows)
        _add_rows(self._hit_rows, hits.rows, rows)
        np.add.at(self._samples_f1_sum, rows, hits.samples_f1_sum)

    def domains(self) -> dict[str, DomainStats]:
        """Statistics of each chosen domain that has rows."""
        return {
            name: self._stats(row)
            for row, name in enumerate(self._names)
            if self._totals[row].any()
        }

    def others(self) -> DomainStats:
        """Statistics of all domains that are not chosen."""
        return self._stats(len(self._names))

    def total(self) -> DomainStats:
        """Statistics of all domains."""
        return self._stats(slice(None))

    def _stats(self, rows: int | slice) -> DomainStats:
        """Statistics of a row, or of several added up."""
        count, ok, truncated, empty, quarantined, tokens = _sum(self._totals, rows).tolist()
        return DomainStats(
            rows=count,
            ok=ok,
            truncated=truncated,
            empty=empty,
            quarantined=quarantined,
            tokens=tokens,
            token_histogram=_sum(self._token_histogram, rows),
            labels_a_row=_sum(self._labels_a_row, rows),
            label_counts=_sum(self._label_counts, rows),
            probability_sum=_sum(self._probability_sum, rows),
            probability_histogram=_sum(self._probability_histogram, rows).reshape(
                self._labels, PROBABILITY_BINS
            ),
            hits=self._hits_of(rows) if self._has_gold else None,
        )

    def _hits_of(self, rows: int | slice) -> Hits:
        compared, exact = _sum(self._hit_rows, rows).tolist()
        return Hits(
            true_positives=_sum(self._hits[0], rows),
            false_positives=_sum(self._hits[1], rows),
            false_negatives=_sum(self._hits[2], rows),
            rows=compared,
            exact_rows=exact,
            samples_f1_sum=float(np.sum(self._samples_f1_sum[rows])),
        )


def merge_stats(
    chunks: Callable[[], Iterable[RunStats]], ranking: DomainRanking | None = None
) -> MergedStats:
    """Add up the statistics of all chunks; `chunks` yields them in corpus order, each time again.

    They are read twice: for the rows of each domain, then for all of the largest ones; and once
    more in between where there are more domains than `ranking` counts exactly.
    """
    ranking = ranking or DomainRanking()
    labels: dict[str, int] = {}
    for run in chunks():
        labels |= {task: stats.labels for task, stats in run.tasks.items()}
        ranking.add(*_domain_rows(run))
    if not ranking.is_exact:
        ranking.count_again(_domain_rows(run) for run in chunks())
    chosen = ranking.largest(most_domains(sum(labels.values())))
    sums = {task: TaskSum(chosen, width) for task, width in labels.items()}
    for run in chunks():
        for task, stats in run.tasks.items():
            sums[task].add(stats)
    others = max(ranking.domains() - len(chosen), 0)
    return MergedStats(
        {
            task: TaskStats(
                total=one.total(),
                domains=one.domains(),
                others=OtherDomains(max(others, 1), ranking.is_exact, one.others())
                if one.others().rows
                else None,
            )
            for task, one in sums.items()
        }
    )


def _domain_rows(run: RunStats) -> tuple[Sequence[str], Sequence[int]]:
    """Domains of a chunk and the rows of each, the same for every task."""
    stats = next(iter(run.tasks.values()), None)
    return ((), ()) if stats is None else (stats.names, stats.rows)


def _add_rows(total: npt.NDArray[np.int64], counts: Counts, rows: npt.NDArray[np.int64]) -> None:
    """Add the row of each domain to its row of the total; only the last takes several."""
    others = len(total) - 1
    chosen = rows < others
    total[rows[chosen]] += counts[chosen]
    total[others] += counts[~chosen].sum(axis=0, dtype=np.int64)


def _add_cells(total: npt.NDArray[np.int64], cells: Cells, rows: npt.NDArray[np.int64]) -> None:
    """Add cells of a (domains, width) array."""
    domain, column = np.divmod(cells.positions, total.shape[1])
    np.add.at(total, (rows[domain], column), cells.counts.astype(np.int64))


def _sum(counts: npt.NDArray[Any], rows: int | slice) -> Int64Array:
    """A row of (domains, ...) counts, or several added up."""
    chosen = counts[rows]
    return chosen if isinstance(rows, int) else np.asarray(chosen.sum(axis=0))
