"""Counts as they stand in a marker: columns in base64, little-endian.

A column that is mostly 0 is stored as its other numbers and the distances between them.
Nothing is compressed, so that every machine writes the same bytes.
"""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from batch.counting.groups import Cells, Counts, narrow
from schemas.arrays import Float64Array, Int64Array

TYPES: dict[str, type[np.integer[Any]]] = {
    "u1": np.uint8,
    "u2": np.uint16,
    "u4": np.uint32,
    "i8": np.int64,
}
SIGNED: dict[str, type[np.integer[Any]]] = {"i2": np.int16, "i4": np.int32, "i8": np.int64}


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
    def of_signed(cls, array: npt.NDArray[Any]) -> Column:
        """Pack whole numbers of either sign, row by row."""
        flat = array.ravel().astype(np.int64)
        highest = int(np.abs(flat).max(initial=0))
        kind = next(name for name, one in SIGNED.items() if highest <= np.iinfo(one).max)
        raw = flat.astype(f"<{kind}").tobytes()
        return cls(type=kind, values=base64.b64encode(raw).decode())

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

    def floats(self) -> Float64Array:
        """Unpack floats."""
        return np.frombuffer(base64.b64decode(self.values, validate=True), "<f8")

    @classmethod
    def of_floats(cls, array: Float64Array) -> Column:
        """Pack floats."""
        return cls(type="f8", values=base64.b64encode(array.astype("<f8").tobytes()).decode())

    @classmethod
    def _packed(cls, flat: npt.NDArray[Any]) -> Column:
        flat = narrow(flat)
        kind = next(name for name, dtype in TYPES.items() if flat.dtype == dtype)
        raw = flat.astype(f"<{kind}").tobytes()
        return cls(type=kind, values=base64.b64encode(raw).decode())

    def _values(self) -> Counts:
        dtype = {**TYPES, **SIGNED}.get(self.type)
        if dtype is None:
            raise ValueError(f"statistics of a marker have numbers of unknown type {self.type!r}")
        raw = base64.b64decode(self.values, validate=True)
        return np.frombuffer(raw, f"<{self.type}").astype(dtype)


def _is_ascending(positions: Int64Array, size: int) -> bool:
    """True if positions, cumulated from distances, are in [0, size) and none is there twice."""
    return not len(positions) or bool(
        positions[0] >= 0 and positions[-1] < size and (np.diff(positions) > 0).all()
    )
