"""Split multi-label rows into parts, or folds, that keep every label's proportion.

Iterative stratification: Sechidis, Tsoumakas, Vlahavas (2011), On the Stratification of
Multi-label Data, ECML PKDD, algorithm 1. The rarest label is dealt out first, while there is still
a choice, and what each part still wants is kept up to date for every label.
"""

import math
from collections.abc import Hashable, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from schemas.arrays import BoolArray, Float64Array, Int32Array, Int64Array

LabelArray: TypeAlias = npt.NDArray[np.bool_] | npt.NDArray[np.integer]

FRACTION_TOLERANCE = 1e-6
"""How far the fractions' sum may be from 1."""

TRAIN = 0
"""The part that must hold every label."""

EVERY_TIME = -1
"""In place of a fold: never tested, because training cannot do without."""


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
    groups: (rows,) hashable codes; rows with equal codes stay in one part. None (the argument)
        means each row is a group of its own; None as a code is a code like any other.
    Returns one sorted int64 array of row numbers a fraction: disjoint, and together all rows.

    Every label that occurs has a row in the first part, even where that costs another part its
    only row with it. Rows without any label are spread by the fractions, as if "none" were a
    label. No part is empty. Proportions are as close as whole rows (or whole groups) allow.

    Raises ValueError for labels of another shape or with other values, for fractions that are not
    shares of 1, for groups of another length, and where there are too few rows or groups to give
    the first part every label and the other parts something.

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
    part_of_unit = _deal_all(amounts, sizes, shares, rng)
    _bring_every_label_to_train(part_of_unit, amounts, sizes)
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
    """Split rows into folds that are tested in turn, each with its share of every label's rows.

    labels, seed, groups: as for `stratified_split`. folds: 2 or more.
    Returns one sorted int64 array of row numbers a fold, disjoint and none empty. Rows of no fold
    are trained on every time.

    Whichever fold is tested, every label that occurs has a row outside it. So a row (or group) that
    alone has some label is of no fold, and a label with rows in two groups has them in two folds,
    however many folds there are: the others test nothing of it.

    Raises ValueError as `stratified_split` does, and where too few rows or groups are left to fill
    the folds.
    """
    if folds < 2:
        raise ValueError(f"folds is {folds}; expected 2 or more")
    present = _checked_labels(labels)
    unit_of_row = _units(groups, rows=present.shape[0])
    amounts, sizes = _unit_amounts(present, unit_of_row)
    has = amounts[:, :-1] > 0  # (units, labels)
    fold_of_unit = np.full(len(sizes), EVERY_TIME, dtype=np.int64)
    tested = np.flatnonzero(~(has & (has.sum(axis=0) == 1)).any(axis=1))
    shares = np.full(folds, 1 / folds)
    rng = np.random.default_rng(seed)
    fold_of_unit[tested] = _deal_all(amounts[tested], sizes[tested], shares, rng)
    _bring_every_label_out_of_its_fold(fold_of_unit, has, sizes, folds)
    _fill_empty_folds(fold_of_unit, sizes, folds)
    fold_of_row = fold_of_unit[unit_of_row]  # (rows,)
    return [np.flatnonzero(fold_of_row == fold).astype(np.int64) for fold in range(folds)]


def _checked_labels(labels: LabelArray) -> npt.NDArray[np.bool_]:
    """Return labels as (rows, labels) bool, or raise ValueError."""
    given = np.asarray(labels)
    if given.ndim != 2:
        raise ValueError(f"labels have shape {given.shape}; expected (rows, labels)")
    if given.dtype.kind not in "biu":
        raise ValueError(f"labels have dtype {given.dtype}; expected bool or integers 0 and 1")
    present = given.astype(np.bool_)
    if given.dtype.kind != "b" and not np.array_equal(given, present):
        row, label = np.argwhere(given != present)[0]
        raise ValueError(f"labels[{row}, {label}] is {given[row, label]}; expected 0 or 1")
    return present


def _checked_fractions(fractions: Sequence[float]) -> Float64Array:
    """Return fractions as (parts,) float64, or raise ValueError."""
    shares = np.asarray(fractions, dtype=np.float64)
    if shares.ndim != 1 or len(shares) == 0:
        raise ValueError(f"fractions are {fractions!r}; expected one number a part")
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
    """Count each unit's rows, by label and in all.

    Returns (units, labels + 1) int32 rows with each label, whose last column counts the rows
    without any label, and (units,) int64 rows.
    """
    unlabelled = ~present.any(axis=1, keepdims=True)  # (rows, 1)
    columns = np.concatenate([present, unlabelled], axis=1)  # (rows, labels + 1)
    sizes = np.bincount(unit_of_row)
    if len(sizes) == len(unit_of_row):  # every unit is one row, in row order
        return columns.astype(np.int32), sizes
    by_unit = np.argsort(unit_of_row, kind="stable")
    starts = np.cumsum(sizes) - sizes
    return np.add.reduceat(columns[by_unit], starts, axis=0, dtype=np.int32), sizes


def _deal_all(
    amounts: Int32Array, sizes: Int64Array, shares: Float64Array, rng: np.random.Generator
) -> Int64Array:
    """Deal every unit to a part, label by label from the one with the fewest rows left.

    Returns (units,) int64 part of each unit.
    """
    part_of_unit = np.full(len(sizes), -1, dtype=np.int64)
    left = amounts.sum(axis=0, dtype=np.int64)  # (labels + 1,) rows not dealt yet
    wanted = shares[:, None] * left  # (parts, labels + 1) rows each part still wants
    room = shares * sizes.sum()  # (parts,) rows of any kind each part still wants
    while left.any():
        column = _rarest(left)
        units = np.flatnonzero((part_of_unit < 0) & (amounts[:, column] > 0))
        # Big groups first, while there is room to make up for them; among equals, by chance.
        units = rng.permutation(units)
        units = units[np.argsort(-amounts[units, column], kind="stable")]
        parts = _deal(amounts[units, column], sizes[units], wanted[:, column], room, rng)
        part_of_unit[units] = parts
        for part in range(len(shares)):
            mine = units[parts == part]
            taken = amounts[mine].sum(axis=0, dtype=np.int64)
            wanted[part] -= taken
            left -= taken
            room[part] -= sizes[mine].sum()
    return part_of_unit


def _rarest(left: Int64Array) -> int:
    """Return the label with the fewest rows left; the column "none" only when no label is left."""
    label_left = left[:-1]
    if not label_left.any():
        return len(left) - 1
    return int(np.argmin(np.where(label_left > 0, label_left, np.iinfo(np.int64).max)))


def _deal(
    amounts: Int32Array,
    sizes: Int64Array,
    wanted: Float64Array,
    room: Float64Array,
    rng: np.random.Generator,
) -> Int64Array:
    """Give each unit in turn to the part that wants the label most.

    amounts, sizes: (units,) rows with the label, and rows in all, of each unit.
    wanted, room: (parts,) rows with the label, and rows in all, each part still wants.
    Ties go to the part with the most room, then to chance. Returns (units,) int64 parts.
    """
    # Plain lists: for a handful of parts they are much faster than arrays, one unit at a time.
    still_wanted, still_room = wanted.tolist(), room.tolist()
    order = rng.permutation(len(still_wanted)).tolist()
    parts = []
    for amount, size in zip(amounts.tolist(), sizes.tolist(), strict=True):
        part = max(order, key=lambda each: (still_wanted[each], still_room[each]))
        still_wanted[part] -= amount
        still_room[part] -= size
        parts.append(part)
    return np.array(parts, dtype=np.int64)


def _bring_every_label_to_train(
    part_of_unit: Int64Array, amounts: Int32Array, sizes: Int64Array
) -> None:
    """Move a unit to the first part, in place, for every label that occurs but not there.

    A label's rows can all have been dealt out with rarer labels they also have, so dealing alone
    cannot promise this. Moving into the first part never takes a label away from it.
    """
    in_train = amounts[part_of_unit == TRAIN].sum(axis=0, dtype=np.int64)
    for label in np.flatnonzero((in_train == 0)[:-1]):
        holders = np.flatnonzero(amounts[:, label] > 0)
        if in_train[label] > 0 or len(holders) == 0:
            continue
        smallest = holders[np.argmin(sizes[holders])]
        part_of_unit[smallest] = TRAIN
        in_train += amounts[smallest]


def _fill_empty_parts(
    part_of_unit: Int64Array, amounts: Int32Array, sizes: Int64Array, shares: Float64Array
) -> None:
    """Give every empty part the unit that costs least, in place.

    A unit can be spared if its part keeps another, and the first part keeps its every label. Of
    those, one with the fewest labels goes, then of the fewest rows, then from the fullest part.
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


def _bring_every_label_out_of_its_fold(
    fold_of_unit: Int64Array, has: BoolArray, sizes: Int64Array, folds: int
) -> None:
    """Move a unit to another fold, in place, for every label whose units are all in one.

    The smallest unit goes, to the fold with the fewest rows, among the moves that do not do the
    same to another label; where there is none, it is trained on every time.
    has: (units, labels) bool. sizes: (units,) rows.
    """
    for label in range(has.shape[1]):
        holders = np.flatnonzero(has[:, label])
        if len(holders) < 2 or len(set(fold_of_unit[holders].tolist())) > 1:
            continue
        home = fold_of_unit[holders[0]]
        if home == EVERY_TIME:
            continue
        by_size = holders[np.argsort(sizes[holders], kind="stable")].tolist()
        others = [fold for fold in _smallest_first(fold_of_unit, sizes, folds) if fold != home]
        moves = ((unit, fold) for unit in by_size for fold in others)
        allowed = (move for move in moves if _may_move(*move, fold_of_unit, has))
        unit, fold = next(allowed, (by_size[0], EVERY_TIME))
        fold_of_unit[unit] = fold


def _fill_empty_folds(fold_of_unit: Int64Array, sizes: Int64Array, folds: int) -> None:
    """Give every empty fold the smallest unit of the fold with the most units, in place."""
    for fold in range(folds):
        unit_counts = np.bincount(fold_of_unit[fold_of_unit >= 0], minlength=folds)
        if unit_counts[fold] > 0:
            continue
        if unit_counts.max() < 2:
            raise ValueError(
                f"fold {fold} of {folds} over {sizes.sum()} rows would be empty: too few rows or "
                "groups whose labels others have too; expected more of them, or fewer folds"
            )
        # Any unit may go: a label that only it has would have kept it out of every fold.
        spare = np.flatnonzero(fold_of_unit == unit_counts.argmax())
        fold_of_unit[spare[np.argmin(sizes[spare])]] = fold


def _smallest_first(fold_of_unit: Int64Array, sizes: Int64Array, folds: int) -> list[int]:
    inside = fold_of_unit >= 0
    rows = np.bincount(fold_of_unit[inside], weights=sizes[inside], minlength=folds)
    return [int(fold) for fold in np.argsort(rows, kind="stable")]


def _may_move(unit: int, fold: int, fold_of_unit: Int64Array, has: BoolArray) -> bool:
    """Whether every label of a unit has another unit outside the fold that it would move to."""
    outside = has[:, has[unit]] & (fold_of_unit != fold)[:, None]
    outside[unit] = False
    return bool(outside.any(axis=0).all())
