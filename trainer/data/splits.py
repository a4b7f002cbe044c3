"""Stratified splits of multi-label rows into parts or folds.

Iterative stratification: Sechidis, Tsoumakas, Vlahavas (2011), On the Stratification of
Multi-label Data, ECML PKDD, algorithm 1. The rarest label is distributed first, while there is
still a choice, and the rows that each part still needs are updated for every label.
"""

import math
from collections.abc import Hashable, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from schemas.arrays import BoolArray, Float64Array, Int32Array, Int64Array

LabelArray: TypeAlias = npt.NDArray[np.bool_] | npt.NDArray[np.integer]

FRACTION_TOLERANCE = 1e-6
"""Maximum deviation of the sum of the fractions from 1."""

TRAIN = 0
"""The part that must contain every label."""

NO_FOLD = -1
"""In place of a fold: in every training part and never tested, because it alone has some label."""


def stratified_split(
    labels: LabelArray,
    *,
    fractions: Sequence[float],
    seed: int,
    groups: Sequence[Hashable] | npt.NDArray[np.generic] | None = None,
) -> list[Int64Array]:
    """Split rows into parts, so that each part has its fraction of every label's rows.

    labels: (rows, labels) bool, or integers that are 0 or 1.
    fractions: share of each part, each above 0, together 1; the first part is the training part.
    seed: for `numpy.random.default_rng`; the same seed and input give the same split.
    groups: (rows,) hashable codes; rows with equal codes are in one part. If the argument is None,
        each row is its own group; None as a code is like any other code.
    Returns one sorted int64 array of row numbers per fraction: disjoint, and together all rows.

    Every label that occurs has a row in the first part, even if another part then loses its only
    row with that label. Rows without any label are distributed by the fractions, as if "none" were
    a label. No part is empty. Proportions are as close as whole rows (or whole groups) allow.

    Raises ValueError for labels of another shape or with other values, for fractions that are not
    shares of 1, for groups of another length, and if there are too few rows or groups to give
    the first part every label and every other part a row.

    Source: Sechidis, Tsoumakas, Vlahavas 2011, algorithm 1, with whole groups as units.
    """
    present = _checked_labels(labels)
    shares = _checked_fractions(fractions)
    unit_of_row = _units(groups, rows=present.shape[0])
    amounts, sizes = _unit_amounts(present, unit_of_row)
    if len(sizes) < len(shares):
        raise ValueError(
            f"{len(sizes)} {'rows' if groups is None else 'groups'} are too few for "
            f"{len(shares)} parts; expected at least one for each"
        )
    rng = np.random.default_rng(seed)
    part_of_unit = _assign_all(amounts, sizes, shares, rng)
    _ensure_labels_in_train(part_of_unit, amounts, sizes)
    _fill_empty_parts(part_of_unit, amounts, sizes, shares)
    part_of_row = part_of_unit[unit_of_row]  # (rows,)
    return [np.flatnonzero(part_of_row == part).astype(np.int64) for part in range(len(shares))]


def stratified_folds(
    labels: LabelArray,
    *,
    folds: int,
    seed: int,
    groups: Sequence[Hashable] | npt.NDArray[np.generic] | None = None,
) -> list[Int64Array]:
    """Split rows into folds for cross-validation, each with its share of every label's rows.

    labels, seed, groups: as for `stratified_split`. folds: 2 or more.
    Returns one sorted int64 array of row numbers per fold, disjoint and none empty. Rows in no fold
    are in every training part.

    For every fold, each label that occurs has a row outside it. So a row (or group) that alone has
    some label is in no fold, and a label with rows in two groups has them in two folds, however
    many folds there are: the other folds do not test it.

    Raises ValueError as `stratified_split` does, and if too few rows or groups are left for the
    folds.
    """
    if folds < 2:
        raise ValueError(f"folds is {folds}; expected 2 or more")
    present = _checked_labels(labels)
    unit_of_row = _units(groups, rows=present.shape[0])
    amounts, sizes = _unit_amounts(present, unit_of_row)
    has = amounts[:, :-1] > 0  # (units, labels)
    fold_of_unit = np.full(len(sizes), NO_FOLD, dtype=np.int64)
    tested = np.flatnonzero(~(has & (has.sum(axis=0) == 1)).any(axis=1))
    shares = np.full(folds, 1 / folds)
    rng = np.random.default_rng(seed)
    fold_of_unit[tested] = _assign_all(amounts[tested], sizes[tested], shares, rng)
    _spread_labels_over_folds(fold_of_unit, has, sizes, folds)
    _fill_empty_folds(fold_of_unit, sizes, folds)
    fold_of_row = fold_of_unit[unit_of_row]  # (rows,)
    return [np.flatnonzero(fold_of_row == fold).astype(np.int64) for fold in range(folds)]


def _checked_labels(labels: LabelArray) -> npt.NDArray[np.bool_]:
    """Return labels as (rows, labels) bool, or raise ValueError."""
    array = np.asarray(labels)
    if array.ndim != 2:
        raise ValueError(f"labels have shape {array.shape}; expected (rows, labels)")
    if array.dtype.kind not in "biu":
        raise ValueError(f"labels have dtype {array.dtype}; expected bool or integers 0 and 1")
    present = array.astype(np.bool_)
    if array.dtype.kind != "b" and not np.array_equal(array, present):
        row, label = np.argwhere(array != present)[0]
        raise ValueError(f"labels[{row}, {label}] is {array[row, label]}; expected 0 or 1")
    return present


def _checked_fractions(fractions: Sequence[float]) -> Float64Array:
    """Return fractions as (parts,) float64, or raise ValueError."""
    shares = np.asarray(fractions, dtype=np.float64)
    if shares.ndim != 1 or len(shares) == 0:
        raise ValueError(f"fractions are {fractions!r}; expected one number per part")
    for part, share in enumerate(shares.tolist()):
        if not 0.0 < share <= 1.0:
            raise ValueError(f"fractions[{part}] is {share}; expected above 0 and at most 1")
    total = math.fsum(shares.tolist())
    if abs(total - 1.0) > FRACTION_TOLERANCE:
        raise ValueError(f"fractions {list(fractions)} sum to {total}; expected 1")
    return shares


def _units(groups: Sequence[Hashable] | npt.NDArray[np.generic] | None, *, rows: int) -> Int64Array:
    """Number the groups in order of first appearance: (rows,) int64 unit of each row."""
    if groups is None:
        return np.arange(rows, dtype=np.int64)
    codes = groups.tolist() if isinstance(groups, np.ndarray) else groups
    if len(codes) != rows:
        raise ValueError(f"groups have length {len(codes)}; expected one for each of {rows} rows")
    numbers: dict[Hashable, int] = {}
    return np.fromiter((numbers.setdefault(code, len(numbers)) for code in codes), np.int64, rows)


def _unit_amounts(
    present: npt.NDArray[np.bool_], unit_of_row: Int64Array
) -> tuple[Int32Array, Int64Array]:
    """Count each unit's rows, by label and in total.

    Returns (units, labels + 1) int32 rows with each label, in the last column those without any
    label, and (units,) int64 total rows.
    """
    unlabelled = ~present.any(axis=1, keepdims=True)  # (rows, 1)
    columns = np.concatenate([present, unlabelled], axis=1)  # (rows, labels + 1)
    sizes = np.bincount(unit_of_row)
    if len(sizes) == len(unit_of_row):  # every unit is one row, in row order
        return columns.astype(np.int32), sizes
    by_unit = np.argsort(unit_of_row, kind="stable")
    starts = np.cumsum(sizes) - sizes
    return np.add.reduceat(columns[by_unit], starts, axis=0, dtype=np.int32), sizes


def _assign_all(
    amounts: Int32Array, sizes: Int64Array, shares: Float64Array, rng: np.random.Generator
) -> Int64Array:
    """Assign every unit to a part, label by label, beginning with the rarest label.

    Returns (units,) int64 part of each unit.
    """
    part_of_unit = np.full(len(sizes), -1, dtype=np.int64)
    remaining = amounts.sum(axis=0, dtype=np.int64)  # (labels + 1,) rows not assigned yet
    needed = shares[:, None] * remaining  # (parts, labels + 1) rows that each part still needs
    free_rows = shares * sizes.sum()  # (parts,) rows of any label that each part still needs
    while remaining.any():
        column = _rarest(remaining)
        units = np.flatnonzero((part_of_unit < 0) & (amounts[:, column] > 0))
        # Big groups first, while later units can still compensate for them; random among equals.
        units = rng.permutation(units)
        units = units[np.argsort(-amounts[units, column], kind="stable")]
        parts = _assign(amounts[units, column], sizes[units], needed[:, column], free_rows, rng)
        part_of_unit[units] = parts
        for part in range(len(shares)):
            part_units = units[parts == part]
            part_amounts = amounts[part_units].sum(axis=0, dtype=np.int64)
            needed[part] -= part_amounts
            remaining -= part_amounts
            free_rows[part] -= sizes[part_units].sum()
    return part_of_unit


def _rarest(remaining: Int64Array) -> int:
    """Return the label with the fewest remaining rows; "none", the last column, comes last."""
    by_label = remaining[:-1]
    if not by_label.any():
        return len(remaining) - 1
    return int(np.argmin(np.where(by_label > 0, by_label, np.iinfo(np.int64).max)))


def _assign(
    amounts: Int32Array,
    sizes: Int64Array,
    needed: Float64Array,
    free_rows: Float64Array,
    rng: np.random.Generator,
) -> Int64Array:
    """Assign each unit in turn to the part that needs the label most.

    amounts, sizes: (units,) rows with the label, and total rows, of each unit.
    needed, free_rows: (parts,) rows with the label, and rows of any label, each part still needs.
    Ties go to the part that needs the most rows, then to a random one. Returns (units,) int64
    parts.
    """
    # Plain lists: for a handful of parts they are much faster than arrays, one unit at a time.
    label_rows, all_rows = needed.tolist(), free_rows.tolist()
    order = rng.permutation(len(label_rows)).tolist()
    parts = []
    for amount, size in zip(amounts.tolist(), sizes.tolist(), strict=True):
        best_part = max(order, key=lambda part: (label_rows[part], all_rows[part]))
        label_rows[best_part] -= amount
        all_rows[best_part] -= size
        parts.append(best_part)
    return np.array(parts, dtype=np.int64)


def _ensure_labels_in_train(
    part_of_unit: Int64Array, amounts: Int32Array, sizes: Int64Array
) -> None:
    """Move a unit to the first part, in place, for every label that is missing there.

    The rows of a label may all have been assigned by rarer labels that they also have, so the
    assignment alone does not guarantee this. A move to the first part removes no label from it.
    """
    in_train = amounts[part_of_unit == TRAIN].sum(axis=0, dtype=np.int64)
    for label in np.flatnonzero((in_train == 0)[:-1]):
        units_with_label = np.flatnonzero(amounts[:, label] > 0)
        if in_train[label] > 0 or len(units_with_label) == 0:
            continue
        smallest = units_with_label[np.argmin(sizes[units_with_label])]
        part_of_unit[smallest] = TRAIN
        in_train += amounts[smallest]


def _fill_empty_parts(
    part_of_unit: Int64Array, amounts: Int32Array, sizes: Int64Array, shares: Float64Array
) -> None:
    """Move one unit to every empty part, in place.

    A unit may be moved if its part has another unit, and if the first part still has every label
    without it. Of these, the one with the fewest labels is moved, then the one with the fewest
    rows, then the one from the fullest part.
    """
    label_counts = (amounts[:, :-1] > 0).sum(axis=1)  # (units,)
    for part in range(len(shares)):
        unit_counts = np.bincount(part_of_unit, minlength=len(shares))  # (parts,)
        if unit_counts[part] > 0:
            continue
        in_train = amounts[part_of_unit == TRAIN].sum(axis=0, dtype=np.int64)
        sole = ((amounts > 0) & (amounts == in_train))[:, :-1].any(axis=1)  # (units,)
        spare = np.flatnonzero((unit_counts[part_of_unit] > 1) & ~((part_of_unit == TRAIN) & sole))
        if len(spare) == 0:
            raise ValueError(
                f"part {part} (fraction {shares[part]}) of {sizes.sum()} rows would be empty: too "
                "few rows or groups to give the first part every label; expected more of them, or "
                "fewer parts"
            )
        excess = unit_counts / (shares * len(sizes))  # (parts,)
        cheapest = np.lexsort((-excess[part_of_unit[spare]], sizes[spare], label_counts[spare]))[0]
        part_of_unit[spare[cheapest]] = part


def _spread_labels_over_folds(
    fold_of_unit: Int64Array, has: BoolArray, sizes: Int64Array, folds: int
) -> None:
    """Move a unit to another fold, in place, for every label whose units are all in one fold.

    The smallest unit is moved to the fold with the fewest rows, unless that would leave another
    label with units in one fold only. If there is no such move, the unit is put in no fold.
    has: (units, labels) bool. sizes: (units,) rows.
    """
    for label in range(has.shape[1]):
        units_with_label = np.flatnonzero(has[:, label])
        if len(units_with_label) < 2 or len(set(fold_of_unit[units_with_label].tolist())) > 1:
            continue
        only_fold = fold_of_unit[units_with_label[0]]
        if only_fold == NO_FOLD:
            continue
        by_size = units_with_label[np.argsort(sizes[units_with_label], kind="stable")].tolist()
        targets = [
            fold for fold in _smallest_first(fold_of_unit, sizes, folds) if fold != only_fold
        ]
        moves = ((unit, fold) for unit in by_size for fold in targets)
        allowed = (move for move in moves if _may_move(*move, fold_of_unit, has))
        unit, fold = next(allowed, (by_size[0], NO_FOLD))
        fold_of_unit[unit] = fold


def _fill_empty_folds(fold_of_unit: Int64Array, sizes: Int64Array, folds: int) -> None:
    """Move the smallest unit of the fold with the most units to every empty fold, in place."""
    for fold in range(folds):
        unit_counts = np.bincount(fold_of_unit[fold_of_unit >= 0], minlength=folds)
        if unit_counts[fold] > 0:
            continue
        if unit_counts.max() < 2:
            raise ValueError(
                f"fold {fold} of {folds} over {sizes.sum()} rows would be empty: too few rows or "
                "groups whose labels other rows have, too; expected more of them, or fewer folds"
            )
        # Any unit may be moved: one that alone has some label is in no fold.
        spare = np.flatnonzero(fold_of_unit == unit_counts.argmax())
        fold_of_unit[spare[np.argmin(sizes[spare])]] = fold


def _smallest_first(fold_of_unit: Int64Array, sizes: Int64Array, folds: int) -> list[int]:
    in_fold = fold_of_unit >= 0
    rows = np.bincount(fold_of_unit[in_fold], weights=sizes[in_fold], minlength=folds)
    return [int(fold) for fold in np.argsort(rows, kind="stable")]


def _may_move(unit: int, fold: int, fold_of_unit: Int64Array, has: BoolArray) -> bool:
    """True if every label of a unit has another unit outside of the fold that it would move to."""
    outside = has[:, has[unit]] & (fold_of_unit != fold)[:, None]
    outside[unit] = False
    return bool(outside.any(axis=0).all())
