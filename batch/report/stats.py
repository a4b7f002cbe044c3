"""Statistics of a chunk as they stand in its marker: columns in base64, little-endian.

A column of which most is 0 holds the distances between its other numbers, and those numbers.
Nothing is compressed, so that every machine writes the same bytes.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from batch.report.counting import (
    MOST_LABELS_A_ROW,
    PROBABILITY_BINS,
    TOKEN_EDGES,
    TOTALS,
    Cells,
    ChunkStats,
    Counts,
    HitCounts,
    narrow,
)

MOST_LABELS = 1_000_000

TYPES = {"u1": np.uint8, "u2": np.uint16, "u4": np.uint32, "i8": np.int64}


class Column(BaseModel):
    """Numbers of one type. gaps: for a column that is mostly 0, otherwise None."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: str
    values: str
    gaps: Column | None = None

    @classmethod
    def of(cls, array: npt.NDArray[Any]) -> Column:
        """Pack an array, row by row."""
        flat = array.ravel()
        positions = np.flatnonzero(flat)
        if len(positions) * 2 >= len(flat):
            return cls._packed(flat)
        return cls.of_cells(Cells(positions.astype(np.int64), flat[positions]))

    @classmethod
    def of_cells(cls, cells: Cells) -> Column:
        """Pack what is not 0, by flat position."""
        gaps = cls._packed(narrow(np.diff(cells.positions, prepend=0)))
        return cls._packed(cells.counts).model_copy(update={"gaps": gaps})

    def array(self, *shape: int) -> Counts:
        """Unpack to an array. Raises ValueError if the numbers do not fit its shape."""
        if self.gaps is None:
            return self._values().reshape(shape)
        size = int(np.prod(shape, dtype=np.int64))
        cells = self.cells(size)
        array = np.zeros(size, cells.counts.dtype)
        array[cells.positions] = cells.counts
        return array.reshape(shape)

    def cells(self, size: int) -> Cells:
        """Unpack what is not 0. Raises ValueError for a position beyond `size`."""
        counts = self._values()
        gaps = np.empty(0) if self.gaps is None else self.gaps._values()
        positions = np.cumsum(gaps.astype(np.int64))
        if len(positions) != len(counts) or not _is_ascending(positions, size):
            raise ValueError("statistics of a marker do not fit its domains and labels")
        return Cells(positions, counts)

    def floats(self) -> npt.NDArray[np.float64]:
        """Unpack floats."""
        return np.frombuffer(base64.b64decode(self.values, validate=True), "<f8")

    @classmethod
    def of_floats(cls, array: npt.NDArray[np.float64]) -> Column:
        """Pack floats."""
        return cls(type="f8", values=base64.b64encode(array.astype("<f8").tobytes()).decode())

    @classmethod
    def _packed(cls, flat: npt.NDArray[Any]) -> Column:
        flat = narrow(flat)
        kind = next(name for name, dtype in TYPES.items() if flat.dtype == dtype)
        raw = flat.astype(f"<{kind}").tobytes()
        return cls(type=kind, values=base64.b64encode(raw).decode())

    def _values(self) -> Counts:
        if self.type not in TYPES:
            raise ValueError(f"statistics of a marker have numbers of unknown type {self.type!r}")
        raw = base64.b64decode(self.values, validate=True)
        return np.frombuffer(raw, f"<{self.type}").astype(TYPES[self.type])


class HitColumns(BaseModel):
    """Columns of `HitCounts`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    true_positives: Column
    false_positives: Column
    false_negatives: Column
    rows: Column
    samples_f1_sum: Column

    @classmethod
    def of(cls, hits: HitCounts) -> HitColumns:
        """Pack hits."""
        return cls(
            true_positives=Column.of(hits.true_positives),
            false_positives=Column.of(hits.false_positives),
            false_negatives=Column.of(hits.false_negatives),
            rows=Column.of(hits.rows),
            samples_f1_sum=Column.of_floats(hits.samples_f1_sum),
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
        )


class ChunkColumns(BaseModel):
    """Columns of `ChunkStats`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    names: tuple[str, ...]
    labels: int = Field(ge=0, le=MOST_LABELS)
    totals: Column
    token_histogram: Column
    labels_a_row: Column
    label_counts: Column
    probability_sum: Column
    probability_histogram: Column
    hits: HitColumns | None = None

    @classmethod
    def of(cls, stats: ChunkStats) -> ChunkColumns:
        """Pack statistics."""
        return cls(
            names=stats.names,
            labels=stats.labels,
            totals=Column.of(stats.totals),
            token_histogram=Column.of(stats.token_histogram),
            labels_a_row=Column.of(stats.labels_a_row),
            label_counts=Column.of(stats.label_counts),
            probability_sum=Column.of(stats.probability_sum),
            probability_histogram=Column.of_cells(stats.probability_histogram),
            hits=None if stats.hits is None else HitColumns.of(stats.hits),
        )

    def stats(self) -> ChunkStats:
        """Unpack statistics. Raises ValueError if a column is of another length."""
        domains, labels = len(self.names), self.labels
        return ChunkStats(
            names=self.names,
            labels=labels,
            totals=self.totals.array(domains, len(TOTALS)),
            token_histogram=self.token_histogram.array(domains, len(TOKEN_EDGES) + 1),
            labels_a_row=self.labels_a_row.array(domains, MOST_LABELS_A_ROW + 1),
            label_counts=self.label_counts.array(domains, labels),
            probability_sum=self.probability_sum.array(domains, labels),
            probability_histogram=self.probability_histogram.cells(
                domains * labels * PROBABILITY_BINS
            ),
            hits=None if self.hits is None else self.hits.hits(domains, labels),
        )


@dataclass(frozen=True)
class RunStats:
    """Statistics of one chunk by task."""

    tasks: dict[str, ChunkStats]

    def to_json(self) -> dict[str, Any]:
        """What a marker holds, by task."""
        return {
            task: ChunkColumns.of(stats).model_dump(exclude_none=True)
            for task, stats in self.tasks.items()
        }

    @classmethod
    def from_json(cls, written: dict[str, Any]) -> RunStats:
        """Read what `to_json` wrote. Raises ValueError for anything else."""
        return cls(
            {
                task: ChunkColumns.model_validate(columns).stats()
                for task, columns in written.items()
            }
        )


def _is_ascending(positions: npt.NDArray[np.int64], size: int) -> bool:
    """True if positions, cumulated from distances, are in [0, size) and none is there twice."""
    return not len(positions) or bool(
        positions[0] >= 0 and positions[-1] < size and (np.diff(positions) > 0).all()
    )
