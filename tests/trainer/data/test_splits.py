"""Stratified splits and folds."""

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from trainer.data.splits import stratified_folds, stratified_split

Bools: TypeAlias = npt.NDArray[np.bool_]
Ints: TypeAlias = npt.NDArray[np.int64]
Case: TypeAlias = tuple[Bools, tuple[float, ...], Ints]

FRACTIONS = (0.8, 0.1, 0.1)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Labels, fractions and group codes; the last rows have no label, so no part is empty."""
    rows = draw(st.integers(0, 30))
    labels = draw(hnp.arrays(np.bool_, (rows, draw(st.integers(1, 6)))))
    spare = np.zeros((4, labels.shape[1]), dtype=np.bool_)
    shares = draw(st.lists(st.integers(1, 9), min_size=2, max_size=4))
    groups = draw(hnp.arrays(np.int64, rows, elements=st.integers(0, 8)))
    codes = np.concatenate([groups, np.arange(100, 104)])
    fractions = tuple(share / sum(shares) for share in shares)
    return np.concatenate([labels, spare]), fractions, codes


def long_tailed(rows: int, seed: int) -> Bools:
    """(rows, 12) labels whose frequencies fall from 40 percent to under 1."""
    rng = np.random.default_rng(seed)
    frequencies = 0.4 * 0.7 ** np.arange(12)
    return rng.random((rows, 12)) < frequencies


def lists(parts: Sequence[Ints]) -> list[list[int]]:
    """The parts as plain lists, to compare."""
    return [part.tolist() for part in parts]


@given(cases(), st.booleans())
@settings(max_examples=80, deadline=None)
def test_every_row_is_in_exactly_one_part(case: Case, grouped: bool) -> None:
    """The parts are sorted and disjoint, contain all rows, and there is one per fraction."""
    labels, fractions, codes = case
    groups = codes if grouped else None
    parts = stratified_split(labels, fractions=fractions, seed=1, groups=groups)

    assert sorted(row for part in parts for row in part.tolist()) == list(range(len(labels)))
    assert all(part.tolist() == sorted(part.tolist()) for part in parts)
    assert [part.dtype for part in parts] == [np.dtype(np.int64)] * len(fractions)


@given(cases(), st.booleans())
@settings(max_examples=80, deadline=None)
def test_every_label_that_occurs_is_in_the_first_part(case: Case, grouped: bool) -> None:
    """The training part has every label, however small its fraction."""
    labels, fractions, codes = case
    groups = codes if grouped else None
    train = stratified_split(labels, fractions=fractions, seed=1, groups=groups)[0]

    assert labels[train].any(axis=0).tolist() == labels.any(axis=0).tolist()


@given(cases(), st.booleans())
@settings(max_examples=80, deadline=None)
def test_no_part_is_empty(case: Case, grouped: bool) -> None:
    """Every part has a row, even if its fraction is less than one row."""
    labels, fractions, codes = case
    groups = codes if grouped else None
    parts = stratified_split(labels, fractions=fractions, seed=1, groups=groups)

    assert all(len(part) > 0 for part in parts)


@given(cases())
@settings(max_examples=80, deadline=None)
def test_group_stays_in_one_part(case: Case) -> None:
    """Rows with the same code are never in different parts."""
    labels, fractions, codes = case
    parts = stratified_split(labels, fractions=fractions, seed=1, groups=codes)
    seen = [code for part in parts for code in set(codes[part].tolist())]

    assert len(seen) == len(set(seen))


def test_groups_of_any_hashable_kind_are_the_same_groups() -> None:
    """Only equality of the codes matters, not their type."""
    labels = long_tailed(60, seed=3)
    codes = np.arange(60) // 3
    mixed = [("story", code) if code % 2 else f"story {code}" for code in codes.tolist()]
    by_number = stratified_split(labels, fractions=FRACTIONS, seed=2, groups=codes)
    by_name = stratified_split(labels, fractions=FRACTIONS, seed=2, groups=mixed)

    assert lists(by_number) == lists(by_name)


def test_groups_of_one_row_have_no_effect() -> None:
    """A unique code for each row gives the split without groups."""
    labels = long_tailed(200, seed=3)
    grouped = stratified_split(labels, fractions=FRACTIONS, seed=2, groups=np.arange(200))

    assert lists(grouped) == lists(stratified_split(labels, fractions=FRACTIONS, seed=2))


@pytest.mark.parametrize("seed", range(5))
def test_label_proportions_are_kept(seed: int) -> None:
    """Each part has its fraction of every label, within three rows, and of all rows within 1 %."""
    labels = long_tailed(4000, seed=seed)
    parts = stratified_split(labels, fractions=FRACTIONS, seed=seed)
    counts = np.array([labels[part].sum(axis=0) for part in parts])
    expected = np.outer(FRACTIONS, labels.sum(axis=0))

    assert np.abs(counts - expected).max() <= 3
    assert [len(part) / 4000 for part in parts] == pytest.approx(FRACTIONS, abs=0.01)


@pytest.mark.parametrize("seed", range(5))
def test_label_proportions_are_kept_with_groups(seed: int) -> None:
    """With groups of three rows on average a part is off by two groups, or 5 percent, at most."""
    labels = long_tailed(4000, seed=seed)
    codes = np.random.default_rng(seed).integers(0, 4000 // 3, size=4000)
    parts = stratified_split(labels, fractions=FRACTIONS, seed=seed, groups=codes)
    counts = np.array([labels[part].sum(axis=0) for part in parts])
    expected = np.outer(FRACTIONS, labels.sum(axis=0))

    assert (np.abs(counts - expected) <= np.maximum(6, 0.05 * expected)).all()
    assert [len(part) / 4000 for part in parts] == pytest.approx(FRACTIONS, abs=0.02)


def test_rows_without_labels_are_spread_by_fractions() -> None:
    """Each part gets its fraction of the rows without a label, within one row."""
    labels = np.concatenate([long_tailed(500, seed=1), np.zeros((200, 12), dtype=np.bool_)])
    unlabelled = np.flatnonzero(~labels.any(axis=1))
    parts = stratified_split(labels, fractions=FRACTIONS, seed=5)
    counts = np.array([np.isin(unlabelled, part).sum() for part in parts])

    assert np.abs(counts - np.array(FRACTIONS) * len(unlabelled)).max() <= 1


def test_single_row_of_a_label_goes_to_the_first_part() -> None:
    """It is in the training part, even if another part's fraction is larger."""
    labels = np.zeros((20, 2), dtype=np.bool_)
    labels[13, 1] = True
    train, _ = stratified_split(labels, fractions=(0.2, 0.8), seed=0)

    assert 13 in train


@pytest.mark.parametrize("seed", range(20))
def test_label_whose_rows_all_have_rarer_labels_is_in_the_first_part(seed: int) -> None:
    """Even if all its rows were assigned by rarer labels."""
    labels = np.array(
        [[1, 1, 0, 0], [1, 0, 1, 0], [1, 0, 0, 1], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    )
    train, _ = stratified_split(labels, fractions=(0.5, 0.5), seed=seed)

    assert labels[train].any(axis=0).all()


def test_same_seed_gives_the_same_split() -> None:
    """The split depends only on the input and the seed."""
    labels = long_tailed(300, seed=0)
    first = stratified_split(labels, fractions=FRACTIONS, seed=9)

    assert lists(first) == lists(stratified_split(labels, fractions=FRACTIONS, seed=9))


def test_other_seed_gives_another_split() -> None:
    """The rows of a label are distributed at random."""
    labels = long_tailed(300, seed=0)
    first = stratified_split(labels, fractions=FRACTIONS, seed=9)

    assert lists(first) != lists(stratified_split(labels, fractions=FRACTIONS, seed=10))


def test_integer_labels_split_like_bool_labels() -> None:
    """Labels of 0 and 1 in an integer dtype give the split of the same bools."""
    labels = long_tailed(100, seed=0)
    as_bool = stratified_split(labels, fractions=FRACTIONS, seed=0)
    as_int = stratified_split(labels.astype(np.int8), fractions=FRACTIONS, seed=0)

    assert lists(as_bool) == lists(as_int)


def test_arguments_are_left_unchanged() -> None:
    """Neither labels nor groups change."""
    labels, codes = long_tailed(50, seed=0), np.arange(50) // 2
    stratified_split(labels, fractions=FRACTIONS, seed=0, groups=codes)

    assert np.array_equal(labels, long_tailed(50, seed=0))
    assert np.array_equal(codes, np.arange(50) // 2)


@pytest.mark.parametrize(
    ("fractions", "message"),
    [
        ((0.8, 0.1), r"\[0.8, 0.1\] sum to 0.9"),
        ((1.2, -0.2), r"fractions\[0\] is 1.2"),
        ((0.9, 0.1, 0.0), r"fractions\[2\] is 0.0"),
        ((float("nan"), 0.5), r"fractions\[0\] is nan"),
        ((), r"fractions are \(\)"),
    ],
)
def test_bad_fractions_are_refused(fractions: tuple[float, ...], message: str) -> None:
    """Fractions that are not shares of 1 are an error with the value."""
    with pytest.raises(ValueError, match=message):
        stratified_split(long_tailed(50, seed=0), fractions=fractions, seed=0)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.zeros(5, dtype=np.bool_), r"shape \(5,\)"),
        (np.array([[0, 1], [2, 0], [0, 0]]), r"labels\[1, 0\] is 2"),
        (np.zeros((5, 2)), "dtype float64"),
        (np.zeros((2, 2), dtype=np.bool_), "2 rows are too few for 3 parts"),
        (np.zeros((0, 2), dtype=np.bool_), "0 rows are too few for 3 parts"),
        (np.eye(5, dtype=np.bool_), "part 1 .* would be empty"),
    ],
)
def test_bad_labels_are_refused(labels: Bools, message: str) -> None:
    """Labels of another shape, dtype or value, and too few of them, are an error."""
    with pytest.raises(ValueError, match=message):
        stratified_split(labels, fractions=FRACTIONS, seed=0)


def test_groups_of_another_length_are_refused() -> None:
    """Each row needs a group code."""
    with pytest.raises(ValueError, match="length 3; expected one for each of 50"):
        stratified_split(long_tailed(50, seed=0), fractions=FRACTIONS, seed=0, groups=[1, 2, 3])


def test_too_few_groups_are_refused() -> None:
    """Two groups cannot fill three parts."""
    with pytest.raises(ValueError, match="2 groups are too few for 3 parts"):
        stratified_split(
            long_tailed(50, seed=0), fractions=FRACTIONS, seed=0, groups=["a", "b"] * 25
        )


@pytest.mark.parametrize("grouped", [False, True])
def test_invariants_hold_for_many_rows_and_labels(grouped: bool) -> None:
    """20,000 rows and 100 labels: every label is in training, and no group is split."""
    rng = np.random.default_rng(4)
    labels = rng.random((20_000, 100)) < np.maximum(0.3 * 0.9 ** np.arange(100), 1e-4)
    codes = rng.integers(0, 8_000, size=20_000) if grouped else np.arange(20_000)
    parts = stratified_split(labels, fractions=FRACTIONS, seed=0, groups=codes)

    assert labels[parts[0]].any(axis=0).tolist() == labels.any(axis=0).tolist()
    assert sum(len(set(codes[part].tolist())) for part in parts) == len(set(codes.tolist()))
    assert sum(len(part) for part in parts) == 20_000


def folds_or_none(labels: Bools, folds: int, codes: Ints | None) -> list[Ints] | None:
    """The folds, or None if there are too few rows or groups to fill them."""
    try:
        return stratified_folds(labels, folds=folds, seed=1, groups=codes)
    except ValueError:
        return None


@given(cases(), st.booleans(), st.integers(2, 6))
@settings(max_examples=200, deadline=None)
def test_every_label_has_a_row_outside_of_each_fold(case: Case, grouped: bool, folds: int) -> None:
    """Every label can be trained whichever fold is tested, and no group is split."""
    labels, _, codes = case
    parts = folds_or_none(labels, folds, codes if grouped else None)
    if parts is None:
        return

    for tested in parts:
        outside = np.setdiff1d(np.arange(len(labels)), tested)
        assert len(tested) > 0
        assert labels[outside].any(axis=0).tolist() == labels.any(axis=0).tolist()
        assert not grouped or not set(codes[tested].tolist()) & set(codes[outside].tolist())


@given(cases(), st.booleans(), st.integers(2, 6))
@settings(max_examples=80, deadline=None)
def test_row_is_in_one_fold_or_has_a_very_rare_label(case: Case, grouped: bool, folds: int) -> None:
    """Folds are sorted and disjoint; a row in no fold has a label of one or two groups only."""
    labels, _, codes = case
    units = codes if grouped else np.arange(len(labels))
    parts = folds_or_none(labels, folds, codes if grouped else None)
    if parts is None:
        return
    rows = [row for part in parts for row in part.tolist()]

    assert len(rows) == len(set(rows))
    assert all(part.tolist() == sorted(part.tolist()) for part in parts)
    holders = [len(set(units[labels[:, label]].tolist())) for label in range(labels.shape[1])]
    for row in set(range(len(labels))) - set(rows):
        unit = labels[units == units[row]].any(axis=0)
        assert min(np.array(holders)[unit]) <= 2


def test_label_of_one_row_is_never_tested() -> None:
    """Its row is in every training part; all others are tested."""
    labels = long_tailed(50, seed=0)
    labels[:, 11] = False
    labels[17, 11] = True
    parts = stratified_folds(labels[:, [0, 11]], folds=5, seed=0)

    assert sorted(row for part in parts for row in part.tolist()) == [
        row for row in range(50) if row != 17
    ]


@pytest.mark.parametrize("seed", range(20))
def test_label_of_two_rows_is_tested_in_two_folds(seed: int) -> None:
    """Even if both rows were assigned by a rarer label, and with more folds than rows."""
    labels = np.zeros((20, 3), dtype=np.bool_)
    labels[:10, 0] = True
    labels[[3, 8], 1] = True
    labels[[3, 12, 15], 2] = True
    parts = stratified_folds(labels, folds=5, seed=seed)

    assert sorted(int(labels[part, 1].sum()) for part in parts) == [0, 0, 0, 1, 1]
    assert max(int(labels[part, 2].sum()) for part in parts) == 1


@pytest.mark.parametrize("seed", range(5))
def test_folds_are_stratified(seed: int) -> None:
    """Each fold has its share of every label, within two rows, and of all rows within 1 %."""
    labels = long_tailed(2000, seed=seed)
    parts = stratified_folds(labels, folds=5, seed=seed)
    counts = np.array([labels[part].sum(axis=0) for part in parts])

    assert np.abs(counts - labels.sum(axis=0) / 5).max() <= 2
    assert [len(part) / 2000 for part in parts] == pytest.approx([0.2] * 5, abs=0.01)


def test_same_seed_gives_the_same_folds() -> None:
    """Folds depend only on the input and the seed."""
    labels = long_tailed(300, seed=0)
    first, again, other = (
        lists(stratified_folds(labels, folds=4, seed=seed)) for seed in (5, 5, 6)
    )

    assert first == again != other


@pytest.mark.parametrize(
    ("labels", "folds", "message"),
    [
        (np.ones((9, 1), dtype=np.bool_), 1, "folds is 1; expected 2 or more"),
        (np.eye(9, dtype=np.bool_), 2, "fold 0 of 2 over 9 rows would be empty"),
        (np.ones((3, 1), dtype=np.bool_), 4, "fold . of 4 over 3 rows would be empty"),
        (np.zeros((5, 2)), 2, "dtype float64"),
    ],
)
def test_folds_that_cannot_be_filled_are_refused(labels: Bools, folds: int, message: str) -> None:
    """One fold, and too few rows that may be tested, are an error."""
    with pytest.raises(ValueError, match=message):
        stratified_folds(labels, folds=folds, seed=0)
