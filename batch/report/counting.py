"""Statistics of one chunk: counts by domain that add up over chunks and fit in a marker file.

They are columns, a row a domain, of the narrowest integers that hold them, so that a chunk where
every row has a domain of its own needs little more than its probabilities do. Everything is an
integer, so that the sum does not depend on how rows fell into chunks; the one exception is
`samples_f1_sum`, a float: add chunks in corpus order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from batch.report.domains import domain_name
from schemas.arrays import BoolArray, Float32Array

IntArray = npt.NDArray[np.int32] | npt.NDArray[np.int64]
Counts = npt.NDArray[Any]
"""Whole numbers >= 0, of the narrowest of NARROW that holds them."""

STATUSES = ("ok", "truncated", "empty", "quarantined")
"""What can become of a row: read whole, read in part, nothing to read, could not be scored."""

TOTALS = ("rows", *STATUSES, "tokens")
"""Columns of `ChunkStats.totals`."""

TOKEN_EDGES = (16, 32, 64, 128, 192, 256, 384, 512)
"""Upper edges of the token bins, inclusive; one more bin takes what is longer."""

PROBABILITY_BINS = 20
"""Equal bins over [0, 1]; bin i holds [i/20, (i+1)/20), the last one 1.0 too."""

PROBABILITY_UNIT = 1_000_000
"""Probabilities are summed in whole millionths: exact, in whatever order they are added."""

MOST_LABELS_A_ROW = 5
"""The last bin of `labels_a_row` takes this many labels and more."""

NARROW = (np.uint8, np.uint16, np.uint32, np.int64)

BLOCK_VALUES = 2**18
"""Probabilities that are counted at once, so that the arrays in between stay small."""


@dataclass(frozen=True)
class Cells:
    """Counts of which nearly all are 0, by flat position.

    positions: (cells,) int64, ascending. counts: (cells,).
    """

    positions: npt.NDArray[np.int64]
    counts: Counts


@dataclass(frozen=True)
class HitCounts:
    """Comparison with gold labels, of rows that have them.

    true_positives, false_positives, false_negatives: (domains, labels).
    rows: (domains, 2), rows compared, and those whose label set is exactly right.
    samples_f1_sum: (domains,) float64, sum over rows of the row's F1.
    """

    true_positives: Counts
    false_positives: Counts
    false_negatives: Counts
    rows: Counts
    samples_f1_sum: npt.NDArray[np.float64]


@dataclass(frozen=True)
class ChunkStats:
    """Counts of the rows of a chunk by domain.

    A row is ok, truncated, empty or quarantined; the first two are scored, and only they are in
    tokens, label_counts, the histograms and probability_sum. Empty rows have no label but count in
    `hits`; quarantined rows count nowhere else.

    names: of the domains, sorted. labels: how many the task has.
    totals: (domains, 6), rows, the same by status, and the sum of the tokens of scored rows.
    token_histogram: (domains, 9), rows whose token count is at most each of TOKEN_EDGES, and more.
    labels_a_row: (domains, 6), rows with 0, 1, 2, 3, 4, and 5 or more labels.
    label_counts: (domains, labels), rows decided positive.
    probability_sum: (domains, labels), in millionths.
    probability_histogram: of (domains, labels, 20).
    hits: None if no row has gold labels.
    """

    names: tuple[str, ...]
    labels: int
    totals: Counts
    token_histogram: Counts
    labels_a_row: Counts
    label_counts: Counts
    probability_sum: Counts
    probability_histogram: Cells
    hits: HitCounts | None

    @property
    def rows(self) -> list[int]:
        """Rows of each domain."""
        return [int(rows) for rows in self.totals[:, 0]]


@dataclass(frozen=True)
class _Groups:
    """Rows of a chunk by domain.

    names: sorted. order: (rows,) row numbers, domain by domain and ascending in each.
    starts: (domains,) where each domain begins in `order`. domain: (rows,) of each row of `order`.
    """

    names: tuple[str, ...]
    order: npt.NDArray[np.int64]
    starts: npt.NDArray[np.int64]
    domain: npt.NDArray[np.int64]

    @classmethod
    def of(cls, domains: Sequence[str | None]) -> _Groups:
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


def count_rows(
    *,
    domains: Sequence[str | None],
    statuses: Sequence[str],
    tokens: IntArray,
    probabilities: Float32Array,
    decided: BoolArray,
    gold: BoolArray | None = None,
    has_gold: BoolArray | None = None,
) -> ChunkStats:
    """Count the rows of a chunk, domain by domain.

    domains: one a row; None and blank count as NO_DOMAIN.
    statuses: one of STATUSES a row.
    tokens: (rows,) int32 or int64. probabilities: (rows, labels) float32. decided: (rows, labels)
    bool. What they hold for empty and quarantined rows is not looked at.
    gold: (rows, labels) bool, or None if no row has gold labels.
    has_gold: (rows,) bool, rows whose gold labels are known; None means all of them.
    Raises ValueError for a status that is not one of the four.
    """
    unknown = sorted(set(statuses) - set(STATUSES))
    if unknown:
        raise ValueError(f"unknown status {unknown[0]!r}: expected one of {', '.join(STATUSES)}")
    groups = _Groups.of(domains)
    status = np.asarray(statuses, dtype=np.str_)[groups.order]
    scored = (status == "ok") | (status == "truncated")
    scored_tokens = np.where(scored, tokens[groups.order], 0).astype(np.int64)
    by_status = [status == name for name in STATUSES]
    totals = np.stack([np.ones(len(status), np.int64), *by_status, scored_tokens], axis=1)
    label_counts, labels_a_row = _count_labels(groups, decided, scored)
    probability_sum, cells = _count_probabilities(groups, probabilities, scored)
    return ChunkStats(
        names=groups.names,
        labels=decided.shape[1],
        totals=narrow(groups.sums(totals)),
        token_histogram=groups.histogram(
            np.searchsorted(TOKEN_EDGES, scored_tokens, side="left"), scored, len(TOKEN_EDGES) + 1
        ),
        labels_a_row=groups.histogram(labels_a_row, scored, MOST_LABELS_A_ROW + 1),
        label_counts=label_counts,
        probability_sum=probability_sum,
        probability_histogram=cells,
        hits=None
        if gold is None
        else _count_hits(
            groups,
            gold,
            decided,
            scored=scored,
            compared=(status != "quarantined")
            & (np.bool_(True) if has_gold is None else has_gold[groups.order]),
        ),
    )


def narrow(counts: npt.NDArray[np.int64]) -> Counts:
    """The same counts in the narrowest type of NARROW."""
    highest = int(counts.max(initial=0))
    return counts.astype(next(one for one in NARROW if highest <= np.iinfo(one).max))


def _blocks(rows: int, labels: int) -> Iterator[slice]:
    """Ranges of labels such that a block of all rows has about BLOCK_VALUES values."""
    width = max(1, BLOCK_VALUES // max(rows, 1))
    for first in range(0, labels, width):
        yield slice(first, min(first + width, labels))


def _count_labels(
    groups: _Groups, decided: BoolArray, scored: BoolArray
) -> tuple[Counts, npt.NDArray[np.int64]]:
    """Rows with each label, (domains, labels); labels of each row up to 5, (rows,) in order."""
    ordered = decided[groups.order] & scored[:, None]
    labels_a_row = np.minimum(ordered.sum(axis=1), MOST_LABELS_A_ROW)
    return _sums_by_label(groups, ordered), labels_a_row


def _sums_by_label(groups: _Groups, ordered: BoolArray) -> Counts:
    """Count what is true, (rows, labels) in order, by domain: (domains, labels)."""
    rows, labels = ordered.shape
    most = next(one for one in NARROW if rows <= np.iinfo(one).max)
    sums = np.zeros((len(groups.names), labels), most)
    for block in _blocks(rows, labels):
        sums[:, block] = groups.sums(ordered[:, block])
    return sums


def _count_probabilities(
    groups: _Groups, probabilities: Float32Array, scored: BoolArray
) -> tuple[Counts, Cells]:
    """Sum of the probabilities in millionths, (domains, labels), and their histogram."""
    rows, labels = probabilities.shape
    highest = rows * PROBABILITY_UNIT
    dtype = next(one for one in NARROW if highest <= np.iinfo(one).max)
    sums = np.zeros((len(groups.names), labels), dtype)
    blocks = []
    for block in _blocks(rows, labels):
        values = probabilities[:, block][groups.order].astype(np.float64)
        values[~scored] = 0.0
        sums[:, block] = groups.sums(np.rint(values * PROBABILITY_UNIT).astype(np.int64))
        blocks.append(_cells(groups.domain[scored], values[scored], block, labels))
    if len(blocks) == 1:
        return sums, blocks[0]
    positions = np.concatenate([np.empty(0, np.int64), *(one.positions for one in blocks)])
    counts = np.concatenate([np.empty(0, np.uint8), *(one.counts for one in blocks)])
    order = np.argsort(positions, kind="stable")
    return sums, Cells(positions[order], counts[order])


def _cells(
    domain: npt.NDArray[np.int64], values: npt.NDArray[np.float64], block: slice, labels: int
) -> Cells:
    """Histogram of some labels. domain: (rows,). values: (rows, labels of the block)."""
    bins = np.clip((values * PROBABILITY_BINS).astype(np.int64), 0, PROBABILITY_BINS - 1)
    label = np.arange(block.start, block.stop)
    flat = ((domain[:, None] * labels + label) * PROBABILITY_BINS + bins).ravel()
    cells = (int(domain.max(initial=-1)) + 1) * labels * PROBABILITY_BINS
    if cells <= 4 * max(len(flat), BLOCK_VALUES // 4):
        counts = np.bincount(flat, minlength=0)
        positions = np.flatnonzero(counts)
        return Cells(positions.astype(np.int64), narrow(counts[positions]))
    positions, counts = np.unique(flat, return_counts=True)
    return Cells(positions, narrow(counts))


def _count_hits(
    groups: _Groups, gold: BoolArray, decided: BoolArray, *, scored: BoolArray, compared: BoolArray
) -> HitCounts:
    """Compare decided with gold labels. scored, compared: (rows,) bool, in order."""
    right = gold[groups.order] & compared[:, None]
    given = decided[groups.order] & (compared & scored)[:, None]
    both = right & given
    sizes = right.sum(axis=1) + given.sum(axis=1)
    row_f1 = np.where(sizes == 0, 1.0, 2 * both.sum(axis=1) / np.maximum(sizes, 1))
    exact = (right == given).all(axis=1) & compared
    return HitCounts(
        true_positives=_sums_by_label(groups, both),
        false_positives=_sums_by_label(groups, given & ~right),
        false_negatives=_sums_by_label(groups, right & ~given),
        rows=narrow(groups.sums(np.stack([compared, exact], axis=1))),
        samples_f1_sum=groups.sums(np.where(compared, row_f1, 0.0), np.float64),
    )
