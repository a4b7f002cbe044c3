"""Which rows are trained on, held out, or left out as a fold to be tested on."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from schemas.arrays import BoolArray, Int64Array
from schemas.config.models import DataConfig
from schemas.errors import DataError
from schemas.kinds import AnyKind
from schemas.tasks.task import label_matrix
from schemas.text.model_text import ModelText
from trainer.data.readers.rows import LabelledRows
from trainer.data.spec import TaskSpec
from trainer.data.splits import stratified_folds, stratified_split
from trainer.data.usable import label_names, read_usable


def train_and_heldout(data: DataConfig, spec: TaskSpec) -> tuple[LabelledRows, LabelledRows]:
    """Training and held-out rows of one data set, without those of the fold to be tested on.

    Raises DataError.
    """
    rows = read_usable(data, spec.task, "train")
    if spec.fold is not None:
        tested = fold_rows(rows, data, spec)
        rows = rows.take(np.setdiff1d(np.arange(len(rows)), tested).tolist())
    if data.validation_value is not None:
        return rows, read_usable(data, spec.task, "validation")
    share = data.validation_share
    try:
        train, heldout = stratified_split(
            _stratify_by(rows, spec.kind),
            fractions=(1 - share, share),
            seed=spec.seed,
            groups=_kept_together(rows, spec),
        )
    except ValueError as error:
        raise DataError(
            f"{data.path}: a share of {share} cannot be held out: {error}",
            hint="more rows, or a validation_value",
        ) from error
    return rows.take(train.tolist()), rows.take(heldout.tolist())


def fold_rows(rows: LabelledRows, data: DataConfig, spec: TaskSpec) -> Int64Array:
    """Rows of the fold to be tested on; the other folds do not depend on which it is."""
    assert spec.fold is not None
    try:
        folds = stratified_folds(
            _stratify_by(rows, spec.kind),
            folds=spec.fold.of,
            seed=spec.seed,
            groups=_kept_together(rows, spec),
        )
    except ValueError as error:
        raise DataError(
            f"{data.path}: cannot be split into {spec.fold.of} folds: {error}",
            hint="more rows, or fewer folds",
        ) from error
    return folds[spec.fold.index]


def _stratify_by(rows: LabelledRows, kind: AnyKind) -> BoolArray:
    """(rows, labels) bool, labels that occur in each row."""
    of_rows = label_names(rows, kind)
    names = sorted({label for labels in of_rows for label in labels})
    return label_matrix(of_rows, tuple(names), source=rows.source)


def _kept_together(rows: LabelledRows, spec: TaskSpec) -> Sequence[Hashable]:
    """A code of each row that is the same for rows of one group, or of one model text.

    Where groups share texts, they are one: connected components of rows, groups and texts.
    """
    texts = model_texts(rows, spec)
    same_text = [text.text for text in texts]
    if rows.groups is None:
        return same_text
    groups, text_codes = (_codes(values) for values in (rows.groups, same_text))
    nodes = int(groups.max()) + 1 + int(text_codes.max()) + 1  # groups first, then texts
    edges = coo_array(
        (np.ones(len(rows)), (groups, groups.max() + 1 + text_codes)), shape=(nodes, nodes)
    )
    _, component = connected_components(edges, directed=False)
    return [int(code) for code in component[groups]]


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
