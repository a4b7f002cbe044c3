"""Counts of decided labels and their probabilities by domain, and of hits against gold labels.

Everything is an integer, so that the sum does not depend on how rows are split into chunks; the one
exception is `samples_f1_sum`, a float: add chunks in corpus order.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from batch.counting.groups import (
    NARROW,
    Cells,
    Counts,
    Groups,
    narrow,
)
from schemas.arrays import BoolArray, Float32Array, Float64Array, Int64Array
from schemas.decision.levels import ONE_LEVEL, LabelTree

PROBABILITY_BINS = 20
"""Equal bins over [0, 1]; bin i contains [i/20, (i+1)/20), the last one 1.0 too."""

PROBABILITY_UNIT = 1_000_000
"""Probabilities are summed in whole millionths: exact, in whatever order they are added."""

MOST_LABELS_A_ROW = 5
"""The last bin of `labels_a_row` takes this many labels and more."""

BLOCK_VALUES = 2**18
"""Probabilities that are counted at once, so that the arrays in between stay small."""


@dataclass(frozen=True)
class LevelCounts:
    """Comparison with gold labels by level, coarse and fine.

    fine: columns of the fine labels; the others are coarse.
    exact_rows: (domains, 2), rows whose labels of the level are exactly right.
    samples_f1_sum: (domains, 2) float64, sum over rows of the row's F1 of the level.
    """

    fine: tuple[int, ...]
    exact_rows: Counts
    samples_f1_sum: Float64Array


@dataclass(frozen=True)
class HitCounts:
    """Comparison with gold labels, of rows that have them.

    true_positives, false_positives, false_negatives: (domains, labels).
    rows: (domains, 2), rows compared, and those whose label set is exactly right.
    samples_f1_sum: (domains,) float64, sum over rows of the row's F1.
    levels: the last two for each level; None for labels of one level.
    """

    true_positives: Counts
    false_positives: Counts
    false_negatives: Counts
    rows: Counts
    samples_f1_sum: Float64Array
    levels: LevelCounts | None = None


@dataclass(frozen=True)
class LabelCounts:
    """Labels of the scored rows of a chunk by domain.

    labels_a_row: (domains, 6), rows with 0, 1, 2, 3, 4, and 5 or more labels.
    label_counts: (domains, labels), rows decided positive.
    probability_sum: (domains, labels), in millionths.
    probability_histogram: of (domains, labels, 20).
    hits: None if no row has gold labels. Empty rows have no label but count in it.
    """

    labels_a_row: Counts
    label_counts: Counts
    probability_sum: Counts
    probability_histogram: Cells
    hits: HitCounts | None


def count_label_rows(
    groups: Groups,
    *,
    probabilities: Float32Array,
    decided: BoolArray,
    scored: BoolArray,
    gold: BoolArray | None,
    compared: BoolArray,
    tree: LabelTree = ONE_LEVEL,
) -> LabelCounts:
    """Count the rows of a chunk.

    probabilities: (rows, labels) float32. decided, gold: (rows, labels) bool; gold is None if the
    run has none. scored, compared: (rows,) bool, rows that the model has read, and rows that are
    compared with gold. What the arrays hold for other rows is not looked at.
    tree: levels of the labels.
    """
    in_order = scored[groups.order]
    label_counts, labels_a_row = _count_labels(groups, decided, in_order)
    probability_sum, cells = _count_probabilities(groups, probabilities, in_order)
    hits = None
    if gold is not None:
        compared_in_order = compared[groups.order]
        right = gold[groups.order] & compared_in_order[:, None]
        given = decided[groups.order] & (compared_in_order & in_order)[:, None]
        hits = _count_hits(groups, right, given, compared_in_order, tree)
    return LabelCounts(
        labels_a_row=groups.histogram(labels_a_row, in_order, MOST_LABELS_A_ROW + 1),
        label_counts=label_counts,
        probability_sum=probability_sum,
        probability_histogram=cells,
        hits=hits,
    )


def _blocks(rows: int, labels: int) -> Iterator[slice]:
    """Ranges of labels such that a block of all rows has about BLOCK_VALUES values."""
    width = max(1, BLOCK_VALUES // max(rows, 1))
    for first in range(0, labels, width):
        yield slice(first, min(first + width, labels))


def _count_labels(
    groups: Groups, decided: BoolArray, scored: BoolArray
) -> tuple[Counts, Int64Array]:
    """Rows with each label, (domains, labels); labels of each row up to 5, (rows,) in order."""
    ordered = decided[groups.order] & scored[:, None]
    labels_a_row = np.minimum(ordered.sum(axis=1), MOST_LABELS_A_ROW)
    return _sums_by_label(groups, ordered), labels_a_row


def _sums_by_label(groups: Groups, ordered: BoolArray) -> Counts:
    """Count what is true, (rows, labels) in order, by domain: (domains, labels)."""
    rows, labels = ordered.shape
    most = next(one for one in NARROW if rows <= np.iinfo(one).max)
    sums = np.zeros((len(groups.names), labels), most)
    for block in _blocks(rows, labels):
        sums[:, block] = groups.sums(ordered[:, block])
    return sums


def _count_probabilities(
    groups: Groups, probabilities: Float32Array, scored: BoolArray
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


def _cells(domain: Int64Array, values: Float64Array, block: slice, labels: int) -> Cells:
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
    groups: Groups, right: BoolArray, given: BoolArray, compared: BoolArray, tree: LabelTree
) -> HitCounts:
    """Compare decided with gold labels, both (rows, labels) bool, in order, False elsewhere.

    compared: (rows,) bool, in order.
    """
    exact, row_f1 = _by_row(right, given, compared)
    return HitCounts(
        true_positives=_sums_by_label(groups, right & given),
        false_positives=_sums_by_label(groups, given & ~right),
        false_negatives=_sums_by_label(groups, right & ~given),
        rows=narrow(groups.sums(np.stack([compared, exact], axis=1))),
        samples_f1_sum=groups.sums(row_f1, np.float64),
        levels=_count_levels(groups, right, given, compared, tree) if tree.children else None,
    )


def _count_levels(
    groups: Groups, right: BoolArray, given: BoolArray, compared: BoolArray, tree: LabelTree
) -> LevelCounts:
    """Compare the labels of each level."""
    is_fine = np.isin(np.arange(right.shape[1]), tree.fine)
    (exact_coarse, f1_coarse), (exact_fine, f1_fine) = (
        _by_row(right[:, of_level], given[:, of_level], compared)
        for of_level in (~is_fine, is_fine)
    )
    return LevelCounts(
        fine=tree.fine,
        exact_rows=narrow(groups.sums(np.stack([exact_coarse, exact_fine], axis=1))),
        samples_f1_sum=groups.sums(np.stack([f1_coarse, f1_fine], axis=1), np.float64),
    )


def _by_row(
    right: BoolArray, given: BoolArray, compared: BoolArray
) -> tuple[BoolArray, Float64Array]:
    """Rows that are exactly right, (rows,) bool, and F1 of each row, 0 for rows not compared."""
    sizes = right.sum(axis=1) + given.sum(axis=1)
    row_f1 = np.where(sizes == 0, 1.0, 2 * (right & given).sum(axis=1) / np.maximum(sizes, 1))
    exact = (right == given).all(axis=1) & compared
    return exact, np.where(compared, row_f1, 0.0)
