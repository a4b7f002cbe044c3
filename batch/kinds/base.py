"""What `batch` adds to a task kind: counts by domain, and its part of the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from pydantic import JsonValue

from batch.counting.groups import Groups
from batch.kinds.sections import OthersReport, Report, SectionReport
from schemas.arrays import BoolArray, Int64Array


@dataclass(frozen=True)
class ChunkAnswers:
    """Answers of one task for every row of a chunk.

    decided: one a row (`schemas.kinds.base.Decided`). scored: (rows,) bool, rows that the model
    has read. targets: gold values of every row as numbers (`Kind.encode`), None if the run has
    none. compared: (rows,) bool, rows that are compared with gold.
    """

    decided: Any
    scored: BoolArray
    targets: Any
    compared: BoolArray


class TallySums(Protocol):
    """Sums of a kind's tallies over chunks: a row for each chosen domain, one for the others."""

    def add(self, tally: Any, rows: Int64Array, /) -> None:
        """Add the tally of a chunk. rows: (domains,), the row of each of its domains."""
        ...

    def total(self, rows: int | slice, /) -> Any:
        """Sum of a row, or of several."""
        ...


@dataclass(frozen=True)
class RowFacts:
    """Rows of one domain, or of several, by what became of them; of every kind of task.

    token_histogram: scored rows by tokens.
    """

    rows: int
    ok: int
    windowed: int
    truncated: int
    empty: int
    quarantined: int
    tokens: int
    token_histogram: Int64Array

    @property
    def scored(self) -> int:
        """Rows that the model has read: at once, in windows, or in part."""
        return self.ok + self.windowed + self.truncated


class BatchKind(Protocol):
    """What `batch` adds to a kind.

    Others: its part of the report on domains that are counted together.
    """

    @property
    def Others(self) -> type[OthersReport]: ...  # noqa: N802  # a class, named as such

    def cells(self, width: int) -> int:
        """Numbers that the report has of one domain, about. width: of the task's output."""
        ...

    def tally(self, groups: Groups, answers: ChunkAnswers) -> Any:
        """Count the answers of a chunk by domain."""
        ...

    def pack(self, tally: Any) -> dict[str, JsonValue]:
        """A tally as JSON of a marker."""
        ...

    def unpack(self, packed: Mapping[str, object], *, domains: int, width: int) -> Any:
        """Read what `pack` gave. Raises ValueError for anything else.

        width: of the task's output.
        """
        ...

    def sums(self, height: int, width: int) -> TallySums:
        """Sums of no chunks yet."""
        ...

    def section(self, rows: RowFacts, total: Any, labels: Sequence[str]) -> SectionReport:
        """The part of the report on one domain."""
        ...

    def report(self, decision: Mapping[str, JsonValue], common: Mapping[str, Any]) -> Report:
        """The report of a task.

        decision: of the task, as its metadata has it. common: fields of every kind.
        """
        ...
