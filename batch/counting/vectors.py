"""Sums of vectors by domain, whole numbers so that they add up to the same in any order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from batch.counting.columns import Column
from batch.counting.groups import Groups, sum_rows
from schemas.arrays import BoolArray, Float32Array, Float64Array, Int64Array
from schemas.decision.vectors import unit_vectors

UNIT = 1 << 14
"""Whole number that stands for 1.0: a vector of length 1 fits into 16 bits."""


@dataclass(frozen=True)
class VectorCounts:
    """Vectors of the scored rows of a chunk by domain.

    sums: (domains, dimension), of the vectors scaled to length 1, in units of 1 / UNIT.
    """

    sums: npt.NDArray[Any]


@dataclass(frozen=True)
class VectorTotals:
    """Vectors of one domain, or of several. total: (dimension,) float64, sum of unit vectors."""

    total: Float64Array


def count_vectors(groups: Groups, vectors: Float32Array, scored: BoolArray) -> VectorCounts:
    """Add up the scored rows of a chunk. vectors: (rows, dimension). scored: (rows,) bool."""
    whole = np.rint(unit_vectors(vectors).astype(np.float64) * UNIT).astype(np.int64)
    whole[~scored] = 0
    return VectorCounts(groups.sums(whole[groups.order]))


class VectorColumns(BaseModel):
    """Columns of `VectorCounts`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sums: Column

    @classmethod
    def of(cls, counts: VectorCounts) -> VectorColumns:
        """Pack counts."""
        return cls(sums=Column.of_signed(counts.sums))

    def counts(self, domains: int, dimension: int) -> VectorCounts:
        """Unpack counts. Raises ValueError if the column is of another length."""
        return VectorCounts(self.sums.array(domains, dimension))


class VectorSums:
    """Sums of vectors over chunks: a row for each chosen domain, and one for the others."""

    def __init__(self, height: int, dimension: int) -> None:
        self._sums = np.zeros((height, dimension), np.int64)

    def add(self, counts: VectorCounts, rows: Int64Array) -> None:
        """Add the counts of a chunk. rows: (domains,), the row of each of its domains."""
        np.add.at(self._sums, rows, counts.sums.astype(np.int64))

    def total(self, rows: int | slice) -> VectorTotals:
        """Sum of a row, or of several."""
        return VectorTotals(sum_rows(self._sums, rows) / UNIT)
