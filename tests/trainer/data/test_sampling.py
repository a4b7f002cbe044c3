"""Sampling of rare labels."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.arrays import BoolArray
from schemas.tasks.sections import Sampling
from tests.strategies import STEADY
from trainer.data.sampling import (
    class_aware_counts,
    repeat_factors,
    round_stochastically,
    row_counts,
    shuffled,
)

EPOCHS = 600


def long_tailed(rows: int = 200, *, seed: int = 0) -> BoolArray:
    """Labels of 100, 50, 12, 1 and 0 rows, and rows without a label."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((rows, 5), dtype=np.bool_)
    for label, count in enumerate((100, 50, 12, 1)):
        labels[rng.choice(rows - 20, count, replace=False), label] = True
    return labels


def mean_counts(labels: BoolArray, sampling: Sampling, *, threshold: float = 0.25) -> list[float]:
    """Mean number of times that each row was drawn, over many epochs."""
    counts = [
        row_counts(labels, sampling, threshold=threshold, rng=np.random.default_rng((7, epoch)))
        for epoch in range(EPOCHS)
    ]
    return [float(mean) for mean in np.mean(counts, axis=0)]


def test_repeat_factor_of_a_row_is_that_of_its_rarest_label() -> None:
    """Of labels with shares 1/2, 1/8 and 1/32 the threshold 1/8 repeats the last, twice."""
    labels = np.zeros((32, 3), dtype=np.bool_)
    labels[:16, 0] = labels[12:16, 1] = labels[0, 2] = True
    factors = repeat_factors(labels, threshold=1 / 8)

    assert factors.tolist() == [2.0] + [1.0] * 31


def test_repeat_factor_grows_with_the_root_of_rarity() -> None:
    """A label with 1/9 of the threshold's share is drawn three times as often."""
    labels = np.zeros((90, 1), dtype=np.bool_)
    labels[:1] = True

    assert repeat_factors(labels, threshold=0.1)[0] == pytest.approx(3.0)


def test_rows_are_drawn_as_often_as_their_factor_on_average() -> None:
    """Over many epochs a row's mean count is its repeat factor, whatever the fraction."""
    labels = long_tailed()
    expected = repeat_factors(labels, threshold=0.25)

    assert expected.max() > 7
    assert mean_counts(labels, "repeat_factor") == pytest.approx(expected.tolist(), abs=0.1)


@STEADY
@given(
    factors=st.lists(st.floats(1, 20), min_size=1, max_size=60),
    seed=st.integers(0, 2**32 - 1),
)
def test_rounding_is_up_or_down_and_keeps_the_sum(factors: list[float], seed: int) -> None:
    """Every row is drawn, the sum is that of the factors, and at most one row is off."""
    counts = round_stochastically(np.array(factors), np.random.default_rng(seed))
    above = counts - np.array(factors)

    assert counts.min() >= 1
    assert abs(counts.sum() - math.fsum(factors)) < 1 + 1e-5
    assert above.min() > -1
    assert np.count_nonzero(above > 1) <= 1


@pytest.mark.parametrize("sampling", ["none", "repeat_factor", "class_aware"])
def test_every_epoch_is_equally_long(sampling: Sampling) -> None:
    """The number of drawn rows depends on the labels only."""
    sizes = {
        int(row_counts(long_tailed(), sampling, threshold=0.3, rng=np.random.default_rng(e)).sum())
        for e in range(200)
    }

    assert len(sizes) == 1
    assert sizes == {200} or sampling == "repeat_factor"


@pytest.mark.parametrize("sampling", ["repeat_factor", "class_aware"])
def test_sampling_is_deterministic(sampling: Sampling) -> None:
    """The same generator gives the same counts, another one gives others."""
    first, again, other = (
        row_counts(long_tailed(), sampling, threshold=0.3, rng=np.random.default_rng(seed))
        for seed in (1, 1, 2)
    )

    assert first.tolist() == again.tolist()
    assert first.tolist() != other.tolist()


def test_without_rare_labels_every_row_is_drawn_once() -> None:
    """If every label reaches the threshold, repeat-factor sampling has no effect."""
    labels = np.tile(np.eye(2, dtype=np.bool_), (50, 1))
    counts = row_counts(labels, "repeat_factor", threshold=0.5, rng=np.random.default_rng(0))

    assert counts.tolist() == [1] * 100


def test_class_aware_labels_are_drawn_equally_often() -> None:
    """Labels without shared rows differ by one draw at most, even one with a single row."""
    labels = np.zeros((100, 4), dtype=np.bool_)
    labels[:70, 0] = labels[70:90, 1] = labels[90:99, 2] = labels[99, 3] = True
    counts = class_aware_counts(labels, np.random.default_rng(0))

    assert [int(counts[labels[:, label]].sum()) for label in range(4)] == [25, 25, 25, 25]
    assert counts[99] == 25


def test_class_aware_rows_of_a_label_are_drawn_in_cycles() -> None:
    """Rows of one label are drawn equally often, except in the current cycle."""
    labels = np.zeros((40, 2), dtype=np.bool_)
    labels[:33, 0] = labels[33:, 1] = True
    counts = class_aware_counts(labels, np.random.default_rng(3))

    assert set(counts[:33].tolist()) == {0, 1}
    assert set(counts[33:].tolist()) == {2, 3}


def test_class_aware_sampling_draws_every_row_eventually() -> None:
    """Rows of frequent labels are missing in some epochs, but none in all epochs."""
    means = np.array(mean_counts(long_tailed(), "class_aware"))

    assert means.min() > 0.1


def test_rows_without_labels_keep_their_share() -> None:
    """Both methods draw a row without labels about once per epoch."""
    labels = long_tailed()
    bare = ~labels.any(axis=1)
    drawn = class_aware_counts(labels, np.random.default_rng(0))

    assert bare.sum() >= 20
    assert drawn[bare].tolist() == [1] * int(bare.sum())
    assert repeat_factors(labels, threshold=0.5)[bare].tolist() == [1.0] * int(bare.sum())


@pytest.mark.parametrize("sampling", ["repeat_factor", "class_aware"])
def test_rows_are_drawn_once_if_none_has_a_label(sampling: Sampling) -> None:
    """Without a single label there is nothing to balance."""
    labels = np.zeros((9, 3), dtype=np.bool_)
    counts = row_counts(labels, sampling, threshold=0.5, rng=np.random.default_rng(0))

    assert counts.tolist() == [1] * 9


@STEADY
@given(counts=st.lists(st.integers(0, 9), min_size=1, max_size=50), seed=st.integers(0, 99))
def test_shuffling_keeps_the_counts(counts: list[int], seed: int) -> None:
    """Each row is in the order as often as its count."""
    order = shuffled(np.array(counts), np.random.default_rng(seed))

    assert np.bincount(order, minlength=len(counts)).tolist() == counts


def test_copies_of_a_row_are_evenly_spaced() -> None:
    """Divided into as many parts as a row has copies, the order has about one in each."""
    counts = np.ones(1000, dtype=np.int64)
    counts[17] = 10
    places = np.flatnonzero(shuffled(counts, np.random.default_rng(0)) == 17)

    assert len(places) == 10
    assert np.diff(places).min() > 90
    assert np.diff(places).max() < 112


def test_single_copies_are_in_random_order() -> None:
    """Without repeats the order is a uniformly random permutation."""
    ones = np.ones(6, dtype=np.int64)
    orders = [shuffled(ones, np.random.default_rng(seed)).tolist() for seed in range(600)]

    assert np.mean(orders, axis=0).tolist() == pytest.approx([2.5] * 6, abs=0.25)
    assert len({tuple(order) for order in orders}) > 300
