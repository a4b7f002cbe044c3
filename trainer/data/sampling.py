"""Sampling of rows: how often each row is drawn in an epoch, with rare labels oversampled.

The alternative for rare labels is a loss that weights them (`trainer.losses.sigmoid`); both can
be combined.
"""

from __future__ import annotations

import numpy as np

from schemas.arrays import BoolArray, Float64Array, Int64Array
from schemas.tasks.sections import Sampling


def row_counts(
    labels: BoolArray, sampling: Sampling, *, threshold: float, rng: np.random.Generator
) -> Int64Array:
    """Number of times each row is drawn in one epoch; the sum is the same in every epoch.

    labels: (rows, labels) bool, which labels a row has.
    threshold: share of rows below which `repeat_factor` repeats a label.
    Returns (rows,) int64 >= 0.
    """
    if sampling == "repeat_factor":
        return round_stochastically(repeat_factors(labels, threshold=threshold), rng)
    if sampling == "class_aware":
        return class_aware_counts(labels, rng)
    return np.ones(len(labels), dtype=np.int64)


def repeat_factors(labels: BoolArray, *, threshold: float) -> Float64Array:
    """Mean number of times that each row should be drawn.

        r_c = max(1, sqrt(t / f_c)),    r_row = max over the row's labels c of r_c

    labels: (rows, labels) bool. threshold: t; f_c is the share of rows that have label c.
    Returns (rows,) float64 >= 1; a row without labels has 1.

    Source: Gupta, Dollar and Girshick (2019), LVIS, appendix B.2 (repeat factor sampling).
    """
    share = labels.mean(axis=0)  # (labels,)
    # A label without rows has no effect, so its share may be any number above zero.
    by_label = np.maximum(1.0, np.sqrt(threshold / np.where(share > 0, share, 1.0)))
    factors: Float64Array = np.where(labels, by_label, 1.0).max(axis=1, initial=1.0)
    return factors


def round_stochastically(factors: Float64Array, rng: np.random.Generator) -> Int64Array:
    """Round each factor up with the probability of its fraction, else down.

    factors: (rows,) float64 >= 0.
    Returns (rows,) int64, which always add up to the sum of the factors, rounded up.

    The fractions are rounded together, by systematic sampling over the rows in random order: each
    is unbiased, and their sum is off by less than one. One random row makes up the difference, so
    that every epoch has the same length.
    """
    counts = np.floor(factors).astype(np.int64)
    fractions = factors - counts
    missing = int(np.ceil(fractions.sum() - 1e-6))
    if missing:
        order = rng.permutation(len(factors))
        steps = np.floor(fractions[order].cumsum() + rng.random())
        extra = np.diff(steps, prepend=0.0).astype(np.int64)
        counts[order] += extra
        counts[rng.integers(len(factors))] += max(0, missing - int(extra.sum()))
    return counts


def class_aware_counts(labels: BoolArray, rng: np.random.Generator) -> Int64Array:
    """Draw a label, then a row that has it, as often as there are rows with labels.

    Labels are drawn in shuffled cycles, and so are the rows of a label. Rows without labels are not
    sampled: each is drawn once, so that their share does not change.

    labels: (rows, labels) bool.
    Returns (rows,) int64, which add up to the number of rows. A row of frequent labels may have 0.

    Source: Shen, Lin and Huang (2016), Relay Backpropagation (class-aware sampling).
    """
    labelled = labels.any(axis=1)
    counts = np.asarray(~labelled, dtype=np.int64)
    present = np.flatnonzero(labels.any(axis=0))
    if not len(present):
        return counts
    turns = np.bincount(_cycles(present, int(labelled.sum()), rng), minlength=labels.shape[1])
    for label in present:
        rows = _cycles(np.flatnonzero(labels[:, label]), int(turns[label]), rng)
        np.add.at(counts, rows, 1)
    return counts


def shuffled(counts: Int64Array, rng: np.random.Generator) -> Int64Array:
    """Rows in random order, each repeated `counts` times, with its copies evenly spaced.

    counts: (rows,) int64 >= 0. Returns (sum of counts,) int64 row numbers.
    """
    phase = np.empty(len(counts))
    phase[rng.permutation(len(counts))] = np.arange(len(counts)) / max(1, len(counts))
    rows = np.repeat(np.arange(len(counts)), counts)
    first = np.repeat(counts.cumsum() - counts, counts)  # index of the first copy of each row
    copy = np.arange(len(rows)) - first
    order = np.argsort((copy + phase[rows]) / counts[rows], kind="stable")
    return rows[order].astype(np.int64)


def _cycles(values: Int64Array, count: int, rng: np.random.Generator) -> Int64Array:
    """`count` values, drawn in cycles that each have all values in random order."""
    cycles = -(-count // len(values))
    drawn = [rng.permutation(values) for _ in range(cycles)]
    return np.concatenate([*drawn, values[:0]])[:count]
