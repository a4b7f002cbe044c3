"""Vectors of texts: how similar they are, and how far others agree with them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from schemas.arrays import BoolArray, Float32Array
from schemas.decision.metrics import Scores

NEIGHBOURS = 10
"""Nearest texts of a text whose place is compared."""
MAX_COMPARED = 2000
"""Texts, the first, among which neighbours are looked for: the work grows with their square."""
SAME_COSINE = 0.99
"""Cosine from which two vectors of a text count as the same answer."""
TIE = 1e-6
"""Difference of a cosine that decides nothing between two neighbours."""


def unit_vectors(vectors: Float32Array) -> Float32Array:
    """(rows, dimension) to length 1; a vector of zeros stays as it is."""
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    return np.asarray(vectors / np.where(lengths > 0, lengths, 1.0), dtype=np.float32)


def at_mean_length(vector: Float32Array, vectors: Float32Array) -> Float32Array:
    """(dimension,) scaled to the mean length of others, (rows, dimension)."""
    exact = vector.astype(np.float64)
    length = np.linalg.norm(exact)
    if length == 0:
        return vector
    wanted = np.linalg.norm(vectors.astype(np.float64), axis=1).mean()
    return np.asarray(exact * (wanted / length), np.float32)


def cosines(ours: Float32Array, theirs: Float32Array) -> Float32Array:
    """(rows,) cosine of the vectors of each row, (rows, dimension) both."""
    return np.asarray((unit_vectors(ours) * unit_vectors(theirs)).sum(axis=1), dtype=np.float32)


def same_answer(ours: Float32Array, theirs: Float32Array) -> BoolArray:
    """(rows,) True where two vectors of a text point the same way, or are equal."""
    equal = (ours == theirs).all(axis=1)
    return np.asarray((cosines(ours, theirs) >= SAME_COSINE) | equal)


class VectorScores(Scores):
    """Agreement of vectors with those of the same texts in full precision.

    cosine: mean over the rows. neighbours_kept: share of each text's ten nearest that are among its
    ten nearest in full precision, mean over the rows.
    """

    cosine: float
    neighbours_kept: float

    def headline(self) -> dict[str, float]:
        """Both; a negative cosine counts as 0."""
        return {"cosine": max(self.cosine, 0.0), "neighbours_kept": self.neighbours_kept}


@dataclass(frozen=True)
class Agreement:
    """Comparison of vectors with expected ones; sums over rows.

    cosines: sum over `rows`. neighbours: those looked at; kept: those that are right.
    """

    rows: int
    cosines: float
    neighbours: int
    kept: int

    @classmethod
    def count(cls, expected: Float32Array, vectors: Float32Array) -> Agreement:
        """Compare the vectors of some texts, (rows, dimension) both."""
        of_rows = np.clip(cosines(expected, vectors).astype(np.float64), -1.0, 1.0)
        neighbours, kept = _kept(expected[:MAX_COMPARED], vectors[:MAX_COMPARED])
        return cls(len(vectors), float(of_rows.sum()), neighbours, kept)

    def __add__(self, other: Agreement) -> Agreement:
        return Agreement(
            self.rows + other.rows,
            self.cosines + other.cosines,
            self.neighbours + other.neighbours,
            self.kept + other.kept,
        )

    def scores(self) -> VectorScores:
        """Means over everything compared; without neighbours all are kept."""
        return VectorScores(
            rows=self.rows,
            cosine=self.cosines / self.rows if self.rows else 0.0,
            neighbours_kept=self.kept / self.neighbours if self.neighbours else 1.0,
        )


def similarities(vectors: Float32Array) -> Float32Array:
    """(rows, rows) cosines, -inf between a text and itself."""
    unit = unit_vectors(vectors)
    matrix = unit @ unit.T
    np.fill_diagonal(matrix, -np.inf)
    return np.asarray(matrix, dtype=np.float32)


def principal_components(vectors: Float32Array, count: int) -> Float32Array:
    """First principal components of (rows, dimension) vectors: (count, dimension), each of length 1
    and with its largest number positive.

    Source: Su, Cao, Liu, Ou (2021), Whitening Sentence Representations for Better Semantics and
    Faster Retrieval, arXiv:2103.15316, without the whitening.
    """
    centred = vectors.astype(np.float64)
    centred -= centred.mean(axis=0)
    _, components = np.linalg.eigh(centred.T @ centred)  # ascending
    first = components.T[::-1][:count]
    largest = np.abs(first).argmax(axis=1)
    signs = np.sign(first[np.arange(count), largest])
    return np.ascontiguousarray(first * signs[:, None], dtype=np.float32)


def _kept(expected: Float32Array, vectors: Float32Array) -> tuple[int, int]:
    """Neighbours that were looked at, and those that are right."""
    nearest = min(NEIGHBOURS, len(expected) - 1)
    if nearest < 1:
        return 0, 0
    theirs, ours = similarities(expected), similarities(vectors)
    least = np.partition(theirs, -nearest, axis=1)[:, -nearest]  # of a neighbour of each row
    found = np.argpartition(ours, -nearest, axis=1)[:, -nearest:]
    right = np.take_along_axis(theirs, found, axis=1) >= least[:, None] - TIE
    return right.size, int(right.sum())
