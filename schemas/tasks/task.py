"""What a task is: a name, a kind, and ordered labels.

Label order is the column order of the logits, everywhere.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated

import numpy as np
from pydantic import AfterValidator

from schemas.arrays import BoolArray
from schemas.errors import DataError, listing
from schemas.tasks.labels import unknown_label_hint

_TASK_NAME = re.compile(r"[a-z][a-z0-9_]*")


def _check_task_name(name: str) -> str:
    if not _TASK_NAME.fullmatch(name):
        raise ValueError(
            f"{name!r} is not a task name: lower-case letters, digits and _, a letter first"
        )
    return name


def _check_labels(labels: tuple[str, ...]) -> tuple[str, ...]:
    for label in labels:
        try:
            label.encode()
        except UnicodeEncodeError as error:  # JSON can spell half of a surrogate pair
            raise ValueError(f"{label!r} cannot be written as UTF-8") from error
    if any(not label.strip() for label in labels):
        raise ValueError("a label is blank")
    doubled = sorted({label for label in labels if labels.count(label) > 1})
    if doubled:
        raise ValueError(f"labels must differ; doubled: {listing(doubled)}")
    return labels


def _check_listed_labels(labels: tuple[str, ...]) -> tuple[str, ...]:
    if not labels:
        raise ValueError("a task needs at least one label")
    return labels


TaskName = Annotated[str, AfterValidator(_check_task_name)]
LabelNames = Annotated[tuple[str, ...], AfterValidator(_check_labels)]
"""Ordered labels of a task; empty for a kind without labels."""
ListedLabels = Annotated[LabelNames, AfterValidator(_check_listed_labels)]
"""Ordered labels, at least one."""


def label_matrix(
    gold: Sequence[Sequence[str]],
    labels: tuple[str, ...],
    *,
    source: str,
    ignore_unknown: bool = False,
    row_names: Sequence[str] | None = None,
) -> BoolArray:
    """Turn lists of label names into columns.

    gold: the labels of each row.
    source: file name for messages; row_names: how they name each row, in place of file and number.
    ignore_unknown: leave labels that are not in `labels` out instead of refusing them.
    Returns (rows, labels) bool.
    Raises DataError for a label that is not in `labels`, with file, row and the nearest label; one
    that only looks like a known label is compared with it by code points.
    """
    column = {label: index for index, label in enumerate(labels)}
    matrix = np.zeros((len(gold), len(labels)), dtype=np.bool_)
    for row, names in enumerate(gold):
        for name in names:
            index = column.get(name)
            if index is not None:
                matrix[row, index] = True
            elif not ignore_unknown:
                where = f"{source}, row {row}" if row_names is None else row_names[row]
                hint = unknown_label_hint(name, labels) or f"known labels: {listing(labels)}"
                raise DataError(f"{where}: unknown label {name!r}", hint=hint)
    return matrix
