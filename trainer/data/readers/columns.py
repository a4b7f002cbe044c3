"""Columns that a task reads from a Parquet file: required columns and their types."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from schemas.config.models import DataConfig, TaskConfig
from schemas.errors import DataError, listing, nearest
from schemas.kinds import KINDS
from schemas.tables import END, ENTITY, START, is_list, is_text
from trainer.data.readers.tables import OpenFile

_FACETS = ("domain_column", "language_column")
"""Settings that name the columns by which scores are broken down."""


def required_columns(data: DataConfig, task: TaskConfig) -> list[str]:
    """Columns that every file must have."""
    needs_split = "split_column" in data.model_fields_set or data.validation_value is not None
    optional = (
        data.group_column,
        data.split_column if needs_split else None,
        *(getattr(data, column) for column in _FACETS if column in data.model_fields_set),
    )
    markers = (ENTITY, START, END) if task.entity_markers else ()
    labels = data.labels_column if KINDS[task.kind].HAS_LABELS else None
    ids = data.id_column if _reads_ids(task) and "id_column" in data.model_fields_set else None
    names = (data.text_column, labels, ids, *markers, *data.only, *optional)
    return [name for name in names if name is not None]


def used_columns(file: OpenFile, data: DataConfig, task: TaskConfig) -> list[str]:
    """Columns to read from a file: the required ones, and the optional ones that it has."""
    facets = [getattr(data, column) for column in _FACETS]
    optional = [name for name in facets if is_text(file.columns.get(name, pa.null()))]
    optional += [data.title_column] * task.title + [data.split_column]
    optional += [data.id_column] * has_ids(file, data, task)
    names = [*required_columns(data, task), *optional]
    return [name for name in dict.fromkeys(names) if name in file.columns]


def check_columns(
    file: OpenFile, needed: Sequence[str], data: DataConfig, task: TaskConfig
) -> None:
    """Check the columns of a file before any row is read.

    Raises DataError with the file and the column, and the nearest name where one is missing.
    """
    for name in needed:
        _require(file, name)
    for name in used_columns(file, data, task):
        if file.schema.names.count(name) > 1:
            raise DataError(
                f"{file.path}: has several columns {name!r}", hint="rename all but one of them"
            )
    texts = [] if has_words(file, data, task) else [data.text_column]
    texts += [data.title_column] * (task.title and data.title_column in file.columns)
    texts += [ENTITY] * task.entity_markers
    texts += [getattr(data, column) for column in data.model_fields_set.intersection(_FACETS)]
    for name in texts:
        _check(file, name, "text", is_valid=_is_text_or_null(file.columns[name]))
    for name in (START, END) if task.entity_markers else ():
        _check(file, name, "whole numbers", is_valid=_may_be_offsets(file.columns[name]))
    kind = KINDS[task.kind]
    if has_words(file, data, task):
        is_tags = is_words(file.columns[data.labels_column])
        _check(file, data.labels_column, "a list of tags such as B-PER", is_tags)
    elif kind.HAS_LABELS:
        is_gold = kind.accepts_gold(file.columns[data.labels_column])
        _check(file, data.labels_column, kind.GOLD_TYPES, is_gold)
    if _reads_ids(task) and "id_column" in data.model_fields_set:
        _check(file, data.id_column, "text or whole numbers", has_ids(file, data, task))
    if data.group_column is not None:
        group = file.columns[data.group_column]
        _check(file, data.group_column, "one value per row", not pa.types.is_nested(group))


def has_words(file: OpenFile, data: DataConfig, task: TaskConfig) -> bool:
    """True if the text of a file is a list of words, which have tags."""
    return KINDS[task.kind].NEEDS_WORDS and is_words(file.columns[data.text_column])


def has_ids(file: OpenFile, data: DataConfig, task: TaskConfig) -> bool:
    """True if a file has a column of ids, and the kind of the task has a use for them."""
    kind = file.columns.get(data.id_column)
    is_ids = kind is not None and (_is_text_or_null(kind) or pa.types.is_integer(kind))
    return is_ids and _reads_ids(task)


def is_words(kind: pa.DataType) -> bool:
    """True for lists of text."""
    return is_list(kind) and is_text(kind.value_type)


def _reads_ids(task: TaskConfig) -> bool:
    return KINDS[task.kind].HAS_REFERENCES


def _require(file: OpenFile, name: str) -> None:
    if name not in file.columns:
        close = nearest(name, file.columns)
        raise DataError(
            f"{file.path}: no column {name!r}; there are {listing(file.columns)}",
            hint=f"did you mean {close!r}?" if close else "name the column in the config",
        )


def _check(file: OpenFile, name: str, expected: str, is_valid: bool) -> None:
    if not is_valid:
        raise DataError(f"{file.path}: column {name!r} is {file.columns[name]}, not {expected}")


def _is_text_or_null(kind: pa.DataType) -> bool:
    return is_text(kind) or bool(pa.types.is_null(kind))


def _may_be_offsets(kind: pa.DataType) -> bool:
    types = pa.types
    return bool(types.is_integer(kind) or types.is_floating(kind) or types.is_null(kind))
