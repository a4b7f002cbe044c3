"""Statistics of one chunk by domain, and their form in a marker.

What every kind of task has is counted here, the rest by the kind (`batch.kinds`). All of it adds up
over chunks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, JsonValue

from batch.counting.columns import Column
from batch.counting.groups import Counts, Groups, narrow
from batch.kinds import BATCH_KINDS
from batch.kinds.base import ChunkAnswers
from batch.kinds.sections import TOKEN_EDGES
from schemas.arrays import BoolArray, Int32Array, Int64Array
from schemas.kinds import TaskKind

MOST_NUMBERS = 1_000_000
"""Largest width of an output."""

STATUSES = ("ok", "windowed", "truncated", "empty", "quarantined")
"""What becomes of a row: read at once, in windows or in part; nothing to read; not scored."""

SCORED = ("ok", "windowed", "truncated")
"""Statuses of rows that the model has read."""

TOTALS = ("rows", *STATUSES, "tokens")
"""Columns of `ChunkStats.totals`."""


@dataclass(frozen=True)
class TaskGold:
    """Gold values of a chunk for one task.

    targets: of every row as numbers (`Kind.encode`). labelled: (rows,) bool, rows that have one.
    """

    targets: Any
    labelled: BoolArray


@dataclass(frozen=True)
class ChunkStats:
    """Counts of the rows of a chunk by domain, for one task.

    A row has one of STATUSES; those in SCORED are scored, and only they are in tokens and in the
    tally. Empty rows have an empty answer but are compared with gold; quarantined
    rows count nowhere else.

    names: of the domains, sorted. width: of the task's output.
    totals: (domains, 7), rows, the same by status, and the sum of the tokens of scored rows.
    token_histogram: (domains, 9), rows whose token count is at most each of TOKEN_EDGES, and more.
    tally: what the kind counts.
    """

    kind: str
    names: tuple[str, ...]
    width: int
    totals: Counts
    token_histogram: Counts
    tally: Any

    @property
    def rows(self) -> list[int]:
        """Rows of each domain."""
        return [int(rows) for rows in self.totals[:, 0]]


def count_rows(
    *,
    kind: str,
    width: int,
    domains: Sequence[str | None],
    statuses: Sequence[str],
    tokens: Int32Array | Int64Array,
    decided: Any,
    gold: TaskGold | None = None,
) -> ChunkStats:
    """Count the rows of a chunk, domain by domain.

    domains: one a row; None and blank count as NO_DOMAIN. statuses: one of STATUSES a row.
    tokens: (rows,). decided: answers, one a row (`schemas.kinds.base.Decided`). What both hold for
    empty and quarantined rows is not looked at.
    Raises ValueError for any other status.
    """
    unknown = sorted(set(statuses) - set(STATUSES))
    if unknown:
        raise ValueError(f"unknown status {unknown[0]!r}: expected one of {', '.join(STATUSES)}")
    groups = Groups.of(domains)
    status = np.asarray(statuses, dtype=np.str_)
    scored = np.isin(status, SCORED)
    compared = status != "quarantined"
    answers = ChunkAnswers(
        decided,
        scored,
        targets=None if gold is None else gold.targets,
        compared=compared if gold is None else compared & gold.labelled,
    )
    in_order, scored_in_order = status[groups.order], scored[groups.order]
    scored_tokens = np.where(scored_in_order, tokens[groups.order], 0).astype(np.int64)
    by_status = [in_order == name for name in STATUSES]
    totals = np.stack([np.ones(len(status), np.int64), *by_status, scored_tokens], axis=1)
    bins = np.searchsorted(TOKEN_EDGES, scored_tokens, side="left")
    return ChunkStats(
        kind=kind,
        names=groups.names,
        width=width,
        totals=narrow(groups.sums(totals)),
        token_histogram=groups.histogram(bins, scored_in_order, len(TOKEN_EDGES) + 1),
        tally=BATCH_KINDS[kind].tally(groups, answers),
    )


class ChunkColumns(BaseModel):
    """Columns of `ChunkStats`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: TaskKind
    names: tuple[str, ...]
    width: int = Field(ge=0, le=MOST_NUMBERS)
    totals: Column
    token_histogram: Column
    tally: dict[str, JsonValue]

    @classmethod
    def of(cls, stats: ChunkStats) -> ChunkColumns:
        """Pack statistics."""
        return cls(
            kind=stats.kind,
            names=stats.names,
            width=stats.width,
            totals=Column.of(stats.totals),
            token_histogram=Column.of(stats.token_histogram),
            tally=BATCH_KINDS[stats.kind].pack(stats.tally),
        )

    def stats(self) -> ChunkStats:
        """Unpack statistics. Raises ValueError if a column is of another length."""
        domains, width = len(self.names), self.width
        return ChunkStats(
            kind=self.kind,
            names=self.names,
            width=width,
            totals=self.totals.array(domains, len(TOTALS)),
            token_histogram=self.token_histogram.array(domains, len(TOKEN_EDGES) + 1),
            tally=BATCH_KINDS[self.kind].unpack(self.tally, domains=domains, width=width),
        )


@dataclass(frozen=True)
class RunStats:
    """Statistics of one chunk by task."""

    tasks: Mapping[str, ChunkStats]

    def to_json(self) -> dict[str, Any]:
        """What a marker contains, by task."""
        return {
            task: ChunkColumns.of(stats).model_dump(exclude_none=True)
            for task, stats in self.tasks.items()
        }

    @classmethod
    def from_json(cls, written: Mapping[str, object]) -> RunStats:
        """Read what `to_json` wrote. Raises ValueError for anything else."""
        return cls(
            {
                task: ChunkColumns.model_validate(columns).stats()
                for task, columns in written.items()
            }
        )
