"""Bootstrap confidence intervals of F1 scores."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict

from schemas.arrays import BoolArray, Float64Array

WEIGHTS_AT_ONCE = 4_000_000
"""Numbers of a block of resamples held in memory: 32 MB."""


class Interval(BaseModel):
    """Bounds of a confidence interval."""

    model_config = ConfigDict(frozen=True)

    low: float
    high: float


class F1Intervals(BaseModel):
    """Intervals of both F1 averages; None where no label of the set occurs at all."""

    model_config = ConfigDict(frozen=True)

    micro_f1: Interval | None = None
    macro_f1: Interval | None = None


def f1_intervals(
    gold: BoolArray,
    decided: BoolArray,
    label_sets: Sequence[Sequence[int]],
    *,
    resamples: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
) -> list[F1Intervals]:
    """Percentile bootstrap over rows (Efron, 1979) of micro-F1 and macro-F1.

    gold, decided: (rows, labels) bool. label_sets: columns to score together, one set after the
    other, all on the same resamples.

    A resample can lose every row of a rare label. Such a label has no F1 there and is left out of
    that resample's mean; counted as 0, as a label that never occurs is, it would pull the interval
    below the score itself.
    """
    if not resamples or not len(gold):
        return [F1Intervals() for _ in label_sets]
    twice_hits, sizes, copies = _patterns(gold, decided)
    rng = np.random.default_rng(seed)
    drawn: list[list[Float64Array]] = [[] for _ in label_sets]
    for weights in _resamples(copies, resamples, rng):
        numerator, denominator = weights @ twice_hits, weights @ sizes  # (block, labels)
        for scores, columns in zip(drawn, label_sets, strict=True):
            chosen = np.asarray(columns, dtype=np.int64)
            occurring = sizes[:, chosen].sum(axis=0) > 0
            scores.append(_f1(numerator[:, chosen], denominator[:, chosen], occurring))
    tail = (1 - confidence) / 2
    return [
        F1Intervals(
            micro_f1=_percentiles(both[:, 0], tail), macro_f1=_percentiles(both[:, 1], tail)
        )
        for both in (np.concatenate(scores) for scores in drawn)
    ]


def _patterns(
    gold: BoolArray, decided: BoolArray
) -> tuple[Float64Array, Float64Array, Float64Array]:
    """Put rows with the same hits together: to a resample they are interchangeable.

    Returns twice the hits and the gold-plus-decided sizes, both (patterns, labels), and the rows
    of each pattern, (patterns,).
    """
    outcome = gold.astype(np.uint8) + 2 * decided.astype(np.uint8)
    patterns, copies = np.unique(outcome, axis=0, return_counts=True)
    has_gold, has_decided = (patterns & 1) > 0, (patterns & 2) > 0
    twice_hits = 2.0 * (has_gold & has_decided)
    return twice_hits, has_gold.astype(np.float64) + has_decided, copies.astype(np.float64)


def _resamples(
    copies: Float64Array, resamples: int, rng: np.random.Generator
) -> Iterator[Float64Array]:
    """Draw as many rows as there are, with replacement: yields (block, patterns) rows drawn."""
    rows = int(copies.sum())
    block = max(1, WEIGHTS_AT_ONCE // len(copies))
    for first in range(0, resamples, block):
        size = min(block, resamples - first)
        yield rng.multinomial(rows, copies / rows, size=size).astype(np.float64)


def _f1(numerator: Float64Array, denominator: Float64Array, occurring: BoolArray) -> Float64Array:
    """Micro-F1 and macro-F1 of each resample, (block, 2); NaN where nothing was drawn.

    numerator, denominator: (block, labels). occurring: (labels,) whether any row has the label.
    """
    drawn = denominator > 0
    label_f1 = numerator / np.maximum(denominator, 1)
    labels_drawn = drawn.sum(axis=1)
    share_occurring = occurring.mean() if len(occurring) else 0.0
    with np.errstate(invalid="ignore"):
        micro = numerator.sum(axis=1) / denominator.sum(axis=1)
        macro = share_occurring * label_f1.sum(axis=1) / labels_drawn
    return np.stack([micro, macro], axis=1)


def _percentiles(values: Float64Array, tail: float) -> Interval | None:
    known = values[~np.isnan(values)]
    if not len(known):
        return None
    low, high = np.quantile(known, [tail, 1 - tail])
    return Interval(low=float(low), high=float(high))
