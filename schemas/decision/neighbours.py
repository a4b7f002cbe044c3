"""The reference texts nearest to each text: numbers of a graph, and prediction columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Self

import numpy as np
import pyarrow as pa

from schemas.arrays import BoolArray, Float32Array, Int64Array
from schemas.tables import ID, SIMILARITY

NEIGHBOURS_TYPE = pa.list_(
    pa.struct([pa.field(ID, pa.string()), pa.field(SIMILARITY, pa.float32())])
)


class Neighbour(NamedTuple):
    """A reference text near a text.

    id: of the reference. similarity: cosine of their vectors, from -1 to 1.
    """

    id: str
    similarity: float


@dataclass(frozen=True)
class Neighbours:
    """The nearest references of some texts, the nearest first.

    ids: of all references of the task, (references,) strings. numbers: (rows, k) int64, places in
    `ids`. similarities: (rows, k) float32, from -1 to 1.
    """

    ids: pa.Array
    numbers: Int64Array
    similarities: Float32Array

    @classmethod
    def of_outputs(cls, outputs: Float32Array, ids: pa.Array) -> Self:
        """Read the output of a graph, (rows, 2 * k): similarities and then reference numbers.

        Of equal similarities, the lower number comes first. Raises ValueError for what is not the
        number of a reference.
        """
        similarities, numbers = np.split(outputs, 2, axis=1)
        is_number = (numbers >= 0) & (numbers < len(ids)) & (numbers == np.floor(numbers))
        if not is_number.all():
            raise ValueError(
                f"names the reference {numbers[~is_number][0]:g}; there are {len(ids)}, counted "
                "from 0"
            )
        order = np.lexsort((numbers, -similarities), axis=1)
        return cls(
            ids,
            np.take_along_axis(numbers, order, axis=1).astype(np.int64),
            np.clip(np.take_along_axis(similarities, order, axis=1), -1.0, 1.0),
        )

    def __len__(self) -> int:
        return len(self.numbers)

    def take(self, rows: Int64Array) -> Self:
        """Neighbours of the given rows, in that order; -1 stands for a row without neighbours."""
        shape = (len(rows), self.numbers.shape[1])
        numbers, similarities = np.zeros(shape, np.int64), np.zeros(shape, np.float32)
        numbers[rows >= 0] = self.numbers[rows[rows >= 0]]
        similarities[rows >= 0] = self.similarities[rows[rows >= 0]]
        return replace(self, numbers=numbers, similarities=similarities)

    def followed_by(self, others: Sequence[Self]) -> Self:
        """These rows and then those of the others, of the same task."""
        parts = (self, *others)
        return replace(
            self,
            numbers=np.concatenate([part.numbers for part in parts]),
            similarities=np.concatenate([part.similarities for part in parts]),
        )

    def column(self, is_answered: BoolArray) -> pa.Array:
        """Prediction column of NEIGHBOURS_TYPE; null where `is_answered`, (rows,) bool, is not."""
        sizes = np.where(is_answered, self.numbers.shape[1], 0)
        values = pa.StructArray.from_arrays(
            [
                self.ids.take(pa.array(self.numbers[is_answered].ravel())),
                pa.array(self.similarities[is_answered].ravel(), pa.float32()),
            ],
            fields=list(NEIGHBOURS_TYPE.value_type),
        )
        return pa.ListArray.from_arrays(
            pa.array(np.concatenate([[0], sizes.cumsum()]), pa.int32()),
            values,
            mask=pa.array(~is_answered),
        )

    def answers(self) -> list[tuple[Neighbour, ...]]:
        """The same as Python values, one tuple a row."""
        return [
            tuple(
                Neighbour(self.ids[number].as_py(), similarity)
                for number, similarity in zip(of_row, similarities, strict=True)
            )
            for of_row, similarities in zip(
                self.numbers.tolist(), self.similarities.tolist(), strict=True
            )
        ]


def nearest_of_windows(outputs: Float32Array) -> Float32Array:
    """From (windows, 2 * k), each as in `Neighbours.of_outputs`, to (2 * k,) of their text.

    The k references that are nearest to any of the windows, each once. Of equal similarities, the
    lower number comes first.
    """
    similarities, numbers = (half.ravel() for half in np.split(outputs, 2, axis=1))
    order = np.lexsort((numbers, -similarities))
    _, first = np.unique(numbers[order], return_index=True)
    nearest = order[np.sort(first)][: outputs.shape[1] // 2]
    return np.concatenate([similarities[nearest], numbers[nearest]])
