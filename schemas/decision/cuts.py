"""Where to cut a ranking: the best place by an objective, and the threshold that cuts there.

A ranking is sorted once. Rows may then count several times or not at all (`copies`), so that a fold
that is left out and a bootstrap resample cost a cumulative sum each, and no sorting.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from schemas.arrays import BoolArray, Float64Array, Int64Array

NOTHING = -1
"""The place before the first: nothing is accepted."""


@dataclass(frozen=True)
class Counts:
    """What is accepted by a cut after each place of a ranking.

    accepted, hits: (places, columns) int64, rows accepted and those of them that are positive.
    positives: (columns,) int64, all positive rows. allowed: (places, columns) bool, false inside a
    tie and where nothing is accepted.
    """

    accepted: Int64Array
    hits: Int64Array
    positives: Int64Array
    allowed: BoolArray

    def precision(self) -> Float64Array:
        """hits / accepted, (places, columns); 0 where nothing is accepted."""
        return np.asarray(self.hits / np.maximum(self.accepted, 1))

    def recall(self) -> Float64Array:
        """hits / positives, (places, columns); 0 where there are no positives."""
        return np.asarray(self.hits / np.maximum(self.positives, 1))

    def f1(self) -> Float64Array:
        """2 hits / (accepted + positives), (places, columns); 0 where both are 0."""
        return np.asarray(2 * self.hits / np.maximum(self.accepted + self.positives, 1))


@dataclass(frozen=True)
class Ranking:
    """Columns of probabilities, each from high to low.

    probabilities: (places, columns) float64. gold: (places, columns) bool.
    rows: (places, columns) int64, the row that stands at each place.
    """

    probabilities: Float64Array
    gold: BoolArray
    rows: Int64Array

    @classmethod
    def of_labels(cls, probabilities: npt.ArrayLike, gold: npt.ArrayLike) -> Ranking:
        """One column a label; both (rows, labels)."""
        scores, truth = np.asarray(probabilities, np.float64), np.asarray(gold, np.bool_)
        order = np.argsort(-scores, axis=0, kind="stable")
        return cls(
            np.take_along_axis(scores, order, axis=0),
            np.take_along_axis(truth, order, axis=0),
            order,
        )

    @classmethod
    def of_pairs(cls, probabilities: npt.ArrayLike, gold: npt.ArrayLike) -> Ranking:
        """All (row, label) pairs in one column; both of any equal shape, rows first."""
        scores, truth = np.asarray(probabilities, np.float64), np.asarray(gold, np.bool_)
        order = np.argsort(-scores.ravel(), kind="stable")[:, None]
        pairs_a_row = max(scores.size // max(len(scores), 1), 1)
        return cls(scores.ravel()[order], truth.ravel()[order], order // pairs_a_row)

    def count(self, copies: Int64Array) -> Counts:
        """Count what every cut accepts; copies: (rows,) int64, how often each row counts."""
        weights = copies[self.rows]
        accepted = np.cumsum(weights, axis=0)
        hits = np.cumsum(weights * self.gold, axis=0)
        positives = (weights * self.gold).sum(axis=0)
        differs = self.probabilities[1:] != self.probabilities[:-1]
        last_of_tie = np.concatenate([differs, np.ones_like(self.gold[:1])])
        return Counts(accepted, hits, positives, last_of_tie & (accepted > 0))

    def thresholds(self, counts: Counts, places: Int64Array) -> Float64Array:
        """The threshold that accepts the rows up to each column's place.

        Midway between the lowest accepted and the highest refused probability (0 if none is
        refused), or the former where no float32 lies between. For NOTHING 1.0 or the float32 just
        above the highest probability, whichever is lower.
        places: (columns,) int64. Returns (columns,) float64, every value a float32.
        """
        columns = np.arange(len(places))
        accepted = np.where(places == NOTHING, 0, counts.accepted[places, columns])
        lowest = self._first(counts.accepted == accepted, columns)
        below = self._first(counts.accepted > accepted, columns)
        midway = ((lowest + below) / 2).astype(np.float32).astype(np.float64)
        above = np.nextafter(below.astype(np.float32), np.float32(2.0))
        cut = np.where(midway > below, midway, lowest)
        return np.where(places == NOTHING, np.minimum(above, 1.0), cut)

    def highest(self, counts: Counts) -> Float64Array:
        """The highest probability of each column that counts, (columns,); 0 where none does."""
        return self._first(counts.accepted > 0, np.arange(counts.accepted.shape[1]))

    def _first(self, where: BoolArray, columns: Int64Array) -> Float64Array:
        """Probability at the first place of each column where `where` holds, or 0."""
        found = self.probabilities[np.argmax(where, axis=0), columns]
        return np.where(where.any(axis=0), found, 0.0)


def highest_f1(counts: Counts) -> Int64Array:
    """Place of the highest F1, the first of equals, in each column."""
    return _first_best(counts.f1(), counts.allowed)


def highest_recall(counts: Counts, *, precision: float) -> Int64Array:
    """Place of the highest recall with at least this precision; of equals the most precise.

    In a column where no cut is so precise, the most precise cut there is; of equals the one with
    the highest recall.
    """
    found = counts.precision()
    top = found.max(axis=0, where=counts.allowed, initial=0.0)
    reached = counts.allowed & (found >= precision)
    most_precise = counts.allowed & (found == top)
    return _first_best(counts.hits, np.where(reached.any(axis=0), reached, most_precise))


def highest_precision(counts: Counts, *, recall: float) -> Int64Array:
    """Place of the highest precision with at least this recall; of equals the highest recall.

    Accepting everything has recall 1, so that a cut always reaches it.
    """
    found = counts.precision()
    reached = counts.allowed & (counts.recall() >= recall)
    top = found.max(axis=0, where=reached, initial=0.0)
    return _first_best(counts.hits, reached & (found == top))


def lowest_cost(
    counts: Counts, highest: Float64Array, *, false_positive: float, false_negative: float
) -> Int64Array:
    """Place of the lowest cost of all errors, the first of equals.

    highest: (columns,), the highest probabilities. NOTHING where refusing everything is cheapest
    and a threshold up to 1 can do it.
    """
    cost = false_positive * (counts.accepted - counts.hits)
    cost = cost + false_negative * (counts.positives - counts.hits)
    places = _first_best(-cost, counts.allowed)
    cheapest = cost[places, np.arange(len(places))]
    nothing = (false_negative * counts.positives < cheapest) & (highest < 1.0)
    return np.where(nothing, NOTHING, places)


def highest_macro_f1(labels: Counts, pairs: Counts, order: Int64Array) -> Int64Array:
    """Place among all pairs, (1,), where one threshold gives the highest macro-F1.

    Going down the pairs, each changes the F1 of its own label only: the running sum of those
    changes is the sum of all F1 at every cut, exact but for the rounding of that sum.
    order: (pairs,) int64, the flat places of `labels` from high to low probability.
    """
    changes = np.diff(labels.f1(), axis=0, prepend=0.0)
    total = np.cumsum(changes.ravel()[order])
    return _first_best(total[:, None], pairs.allowed)


def _first_best(preference: npt.NDArray[np.generic], allowed: BoolArray) -> Int64Array:
    return np.asarray(np.argmax(np.where(allowed, preference, -np.inf), axis=0), dtype=np.int64)
