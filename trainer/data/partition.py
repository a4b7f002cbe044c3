"""Which rows are trained on, held out, or left out as a fold to be tested on.

Tasks that are labelled on the same rows of the same data are split together: a row that is held out
for one of them is held out for all, so that the encoder has never seen it. A reversed task follows
the split of the others, and holds out some of what they are trained on: its labels, such as
publishers, may be those that the others keep together.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from schemas.arrays import BoolArray, Int64Array
from schemas.config.models import DataConfig
from schemas.errors import DataError
from schemas.tasks.task import label_matrix
from schemas.text.model_text import ModelText
from trainer.data.readers.rows import LabelledRows
from trainer.data.spec import TaskSpec
from trainer.data.splits import stratified_folds, stratified_split
from trainer.data.usable import label_names, read_usable


@dataclass(frozen=True)
class SplitRows:
    """Rows of one data set of one task. tested: those of the fold, which training leaves out."""

    train: LabelledRows
    heldout: LabelledRows
    tested: LabelledRows


@dataclass(frozen=True)
class _DataSet:
    """One data set of one task, with its usable rows that are not held out by name."""

    spec: TaskSpec
    data: DataConfig
    rows: LabelledRows


def split_rows(specs: Sequence[TaskSpec]) -> Mapping[str, list[SplitRows]]:
    """Rows of each data set of each task, in the order of the config. Raises DataError."""
    sets = [
        _DataSet(spec, data, read_usable(data, spec.task, "train"))
        for spec in specs
        for data in spec.task.data
    ]
    together: dict[Hashable, list[int]] = {}
    for number, one in enumerate(sets):
        data = one.data
        key = (data.path, data.validation_value, data.validation_share, *one.rows.row_names)
        together.setdefault(key, []).append(number)
    split: dict[int, SplitRows] = {}
    for numbers in together.values():
        leading = [number for number in numbers if not sets[number].spec.task.reversal] or numbers
        shared = _split([sets[number] for number in leading])
        for number in numbers:
            one = sets[number]
            train, heldout, tested = shared if number in leading else _follow(one, shared)
            held_out = (
                one.rows.take(heldout.tolist())
                if one.data.validation_value is None
                else read_usable(one.data, one.spec.task, "validation")
            )
            split[number] = SplitRows(
                one.rows.take(train.tolist()), held_out, one.rows.take(tested.tolist())
            )
    by_task: dict[str, list[SplitRows]] = {spec.name: [] for spec in specs}
    for number, one in enumerate(sets):
        by_task[one.spec.name].append(split[number])
    return by_task


def _split(sets: Sequence[_DataSet]) -> tuple[Int64Array, Int64Array, Int64Array]:
    """Numbers of the rows to train on, to hold out and to test on, the same for all tasks."""
    spec, data = sets[0].spec, sets[0].data
    labels, groups = _stratify_by(sets), _kept_together(sets)
    every = np.arange(len(sets[0].rows), dtype=np.int64)
    tested = every[:0]
    if spec.fold is not None:
        try:
            folds = stratified_folds(labels, folds=spec.fold.of, seed=spec.seed, groups=groups)
        except ValueError as error:
            raise DataError(
                f"{data.path}: cannot be split into {spec.fold.of} folds: {error}",
                hint="more rows, or fewer folds",
            ) from error
        tested = folds[spec.fold.index]
    others = np.setdiff1d(every, tested)
    return *_hold_out(sets[0], others, labels, groups), tested


def _follow(
    one: _DataSet, shared: tuple[Int64Array, Int64Array, Int64Array]
) -> tuple[Int64Array, Int64Array, Int64Array]:
    """The same for a task that is trained on rows that others are trained on."""
    train, _, tested = shared
    return *_hold_out(one, train, _stratify_by([one]), _kept_together([one])), tested


def _hold_out(
    one: _DataSet, rows: Int64Array, labels: BoolArray, groups: Sequence[Hashable]
) -> tuple[Int64Array, Int64Array]:
    """Divide numbers of rows into those to train on and those to hold out.

    labels: (all rows, labels). groups: of all rows.
    """
    data = one.data
    if data.validation_value is not None:
        return rows, rows[:0]
    of_rows, share = labels[rows], data.validation_share
    try:
        train, heldout = stratified_split(
            of_rows[:, of_rows.any(axis=0)],
            fractions=(1 - share, share),
            seed=one.spec.seed,
            groups=[groups[row] for row in rows],
        )
    except ValueError as error:
        raise DataError(
            f"{data.path}: a share of {share} cannot be held out: {error}",
            hint="more rows, or a validation_value",
        ) from error
    return rows[train], rows[heldout]


def _stratify_by(sets: Sequence[_DataSet]) -> BoolArray:
    """(rows, labels) bool, labels of all tasks that occur in each row."""
    matrices = []
    for one in sets:
        of_rows = label_names(one.rows, one.spec.kind)
        names = sorted({label for labels in of_rows for label in labels})
        matrices.append(label_matrix(of_rows, tuple(names), source=one.rows.source))
    return np.concatenate(matrices, axis=1)


def _kept_together(sets: Sequence[_DataSet]) -> Sequence[Hashable]:
    """A code of each row that is the same for rows of one group, or of one model text of a task.

    Where groups share texts, they are one: connected components of rows, groups and texts.
    """
    columns: list[Sequence[Hashable]] = [
        [text.text for text in model_texts(one.rows, one.spec)] for one in sets
    ]
    columns += [one.rows.groups for one in sets if one.rows.groups is not None]
    if len(columns) == 1:
        return columns[0]
    rows = len(columns[0])
    edges, nodes = [], rows
    for column in columns:
        codes = _codes(column)
        edges.append(np.stack([np.arange(rows), nodes + codes]))
        nodes += int(codes.max(initial=-1)) + 1
    ends = np.concatenate(edges, axis=1)
    graph = coo_array((np.ones(ends.shape[1]), (ends[0], ends[1])), shape=(nodes, nodes))
    _, component = connected_components(graph, directed=False)
    return [int(code) for code in component[:rows]]


def _codes(values: Sequence[Hashable]) -> Int64Array:
    """Number values in order of first appearance, (rows,) int64."""
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(value, len(numbers)) for value in values], dtype=np.int64)


def model_texts(rows: LabelledRows, spec: TaskSpec) -> list[ModelText]:
    """Model text of each row. Raises DataError with the row for a wrong entity span."""
    texts = []
    for row, article in enumerate(rows.articles):
        try:
            texts.append(spec.model_text(article))
        except ValueError as error:
            start = (article.text or "")[:60]
            raise DataError(
                f"{rows.row_names[row]}: {error} (text {start!r}...)",
                hint="correct the row, or leave it out",
            ) from error
    return texts
