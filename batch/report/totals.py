"""Statistics of all chunks: of the whole corpus, of its largest domains, and of the others as one.

Memory is bounded by the domains that are described one by one, however many there are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from batch.counting.domains import DomainRanking, most_domains
from batch.counting.groups import add_rows, sum_rows
from batch.kinds import BATCH_KINDS
from batch.kinds.base import RowFacts
from batch.kinds.sections import TOKEN_EDGES
from batch.report.stats import TOTALS, ChunkStats, RunStats


@dataclass(frozen=True)
class DomainStats:
    """Counts of the rows of one domain, or of several. tally: what the kind counts, added up."""

    rows: RowFacts
    tally: Any


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

    tasks: Mapping[str, TaskStats]


class TaskSum:
    """Sums over the chunks of one task: a row for each chosen domain, and one for the others."""

    def __init__(self, names: Sequence[str], kind: str, width: int) -> None:
        self._names, self._kind, self._width = tuple(names), kind, width
        self._row_of = {name: row for row, name in enumerate(names)}
        height = len(names) + 1
        self._totals = np.zeros((height, len(TOTALS)), np.int64)
        self._token_histogram = np.zeros((height, len(TOKEN_EDGES) + 1), np.int64)
        self._tallies = BATCH_KINDS[kind].sums(height, width)

    def add(self, chunk: ChunkStats) -> None:
        """Add a chunk. Raises ValueError if it is of another kind or width."""
        if (chunk.kind, chunk.width) != (self._kind, self._width):
            raise ValueError(
                f"statistics are of kind {chunk.kind} with {chunk.width} numbers, others of "
                f"{self._kind} with {self._width}"
            )
        others = len(self._names)
        rows = np.array([self._row_of.get(name, others) for name in chunk.names], np.int64)
        add_rows(self._totals, chunk.totals, rows)
        add_rows(self._token_histogram, chunk.token_histogram, rows)
        self._tallies.add(chunk.tally, rows)

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
        counts = dict(zip(TOTALS, sum_rows(self._totals, rows).tolist(), strict=True))
        facts = RowFacts(**counts, token_histogram=sum_rows(self._token_histogram, rows))
        return DomainStats(facts, self._tallies.total(rows))


def merge_stats(
    chunks: Callable[[], Iterable[RunStats]], ranking: DomainRanking | None = None
) -> MergedStats:
    """Add up the statistics of all chunks; `chunks` yields them in corpus order, each time again.

    They are read twice: for the rows of each domain, then for all of the largest ones; and once
    more in between where there are more domains than `ranking` counts exactly.
    """
    ranking = ranking or DomainRanking()
    tasks: dict[str, tuple[str, int]] = {}
    for run in chunks():
        tasks |= {task: (stats.kind, stats.width) for task, stats in run.tasks.items()}
        ranking.add(*_domain_rows(run))
    if not ranking.is_exact:
        ranking.count_again(_domain_rows(run) for run in chunks())
    cells = sum(BATCH_KINDS[kind].cells(width) for kind, width in tasks.values())
    chosen = ranking.largest(most_domains(cells))
    sums = {task: TaskSum(chosen, kind, width) for task, (kind, width) in tasks.items()}
    for run in chunks():
        for task, stats in run.tasks.items():
            sums[task].add(stats)
    domains = max(ranking.domains() - len(chosen), 0)
    return MergedStats(
        {
            task: TaskStats(
                total=of_task.total(),
                domains=of_task.domains(),
                others=OtherDomains(max(domains, 1), ranking.is_exact, of_task.others())
                if of_task.others().rows.rows
                else None,
            )
            for task, of_task in sums.items()
        }
    )


def _domain_rows(run: RunStats) -> tuple[Sequence[str], Sequence[int]]:
    """Domains of a chunk and the rows of each, the same for every task."""
    stats = next(iter(run.tasks.values()), None)
    return ((), ()) if stats is None else (stats.names, stats.rows)
