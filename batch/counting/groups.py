"""Rows of a chunk grouped by domain, and sums over such groups.

Counts are columns, a row a domain, of the narrowest integers that hold them, so that a chunk where
every row has a domain of its own needs little more than its probabilities do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from batch.counting.domains import domain_name
from schemas.arrays import BoolArray, Int64Array

Counts = npt.NDArray[Any]
"""Whole numbers >= 0, in the narrowest dtype of NARROW."""

NARROW = (np.uint8, np.uint16, np.uint32, np.int64)


@dataclass(frozen=True)
class Cells:
    """Counts of which nearly all are 0, by flat position.

    positions: (cells,) int64, ascending. counts: (cells,).
    """

    positions: Int64Array
    counts: Counts


@dataclass(frozen=True)
class Groups:
    """Rows of a chunk by domain.

    names: sorted. order: (rows,) row numbers, domain by domain and ascending in each.
    starts: (domains,) where each domain begins in `order`. domain: (rows,) of each row of `order`.
    """

    names: tuple[str, ...]
    order: Int64Array
    starts: Int64Array
    domain: Int64Array

    @classmethod
    def of(cls, domains: Sequence[str | None]) -> Groups:
        """Group rows by the domain of each."""
        codes: dict[str | None, int] = {}
        column = np.fromiter(
            (codes.setdefault(domain, len(codes)) for domain in domains),
            dtype=np.int64,
            count=len(domains),
        )
        shown = [domain_name(domain) for domain in codes]
        names = sorted(set(shown))
        numbers = {name: number for number, name in enumerate(names)}
        renumbered = np.array([numbers[name] for name in shown], np.int64)
        column = renumbered[column] if len(column) else column
        order = np.argsort(column, kind="stable").astype(np.int64)
        sizes = np.bincount(column, minlength=len(names))
        return cls(tuple(names), order, np.cumsum(sizes) - sizes, column[order])

    def sums(self, values: npt.NDArray[Any], dtype: type = np.int64) -> npt.NDArray[Any]:
        """Add (rows, ...) values, rows in `order`, by domain to (domains, ...)."""
        if not len(self.starts):
            return np.zeros((0, *values.shape[1:]), dtype)
        return np.asarray(np.add.reduceat(values, self.starts, axis=0, dtype=dtype))

    def histogram(self, bins: npt.NDArray[Any], counted: BoolArray, width: int) -> Counts:
        """Count the bins of the counted rows by domain, (domains, width). Both in `order`."""
        flat = self.domain[counted] * width + bins[counted]
        counts = np.bincount(flat, minlength=len(self.names) * width)
        return narrow(counts.reshape(-1, width))


def narrow(counts: Int64Array) -> Counts:
    """The same counts in the narrowest type of NARROW."""
    highest = int(counts.max(initial=0))
    return counts.astype(next(one for one in NARROW if highest <= np.iinfo(one).max))


def add_rows(total: Int64Array, counts: Counts, rows: Int64Array) -> None:
    """Add the row of each domain to its row of the total; only the last takes several."""
    others = len(total) - 1
    chosen = rows < others
    total[rows[chosen]] += counts[chosen]
    total[others] += counts[~chosen].sum(axis=0, dtype=np.int64)


def add_cells(total: Int64Array, cells: Cells, rows: Int64Array) -> None:
    """Add cells of a (domains, width) array."""
    domain, column = np.divmod(cells.positions, total.shape[1])
    np.add.at(total, (rows[domain], column), cells.counts.astype(np.int64))


def sum_rows(counts: npt.NDArray[Any], rows: int | slice) -> Int64Array:
    """A row of (domains, ...) counts, or several added up."""
    chosen = counts[rows]
    return chosen if isinstance(rows, int) else np.asarray(chosen.sum(axis=0))
