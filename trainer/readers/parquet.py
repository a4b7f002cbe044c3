"""Reader for Parquet with a text column and a labels column."""

from __future__ import annotations

import polars as pl

from schemas.config import DataConfig, TaskConfig
from schemas.errors import DataError, listing, nearest
from schemas.tables import END, ENTITY, START
from schemas.text import Article
from trainer.readers.rows import LabelledRows

_FACETS = ("domain_column", "language_column")
"""Settings of the columns that scores are split by."""

_STRINGS = (pl.String, pl.Categorical, pl.Enum)


def read_parquet_part(data: DataConfig, task: TaskConfig, part: str) -> LabelledRows:
    """Read the rows of one part, with only the columns that the task needs.

    Raises DataError if the file cannot be read, a column is missing or is not of the right type.
    """
    frame = _collect(data, task, part)
    texts = frame[data.text_column].to_list()
    titles = _optional(frame, data.title_column) or [None] * len(frame)
    entities, starts, ends = (
        frame[name].to_list() if task.entity_markers else [None] * len(frame)
        for name in (ENTITY, START, END)
    )
    return LabelledRows(
        source=str(data.path),
        articles=[
            Article(text, title, entity, start, end)
            for text, title, entity, start, end in zip(
                texts, titles, entities, starts, ends, strict=True
            )
        ],
        gold=_label_lists(frame[data.labels_column]),
        groups=frame[data.group_column].to_list() if data.group_column else None,
        domains=_optional(frame, data.domain_column),
        languages=_optional(frame, data.language_column),
    )


def _collect(data: DataConfig, task: TaskConfig, part: str) -> pl.DataFrame:
    try:
        schema = pl.read_parquet_schema(data.path)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DataError(
            f"{data.path}: cannot be read as Parquet: {error}",
            hint="paths in a config are relative to the config file",
        ) from error
    wanted = _wanted_columns(data, task)
    for name in wanted:
        _require(name, schema, data)
    _check_types(data, task, schema)
    if data.title_column in schema and task.title:
        wanted.append(data.title_column)
    facets = (data.domain_column, data.language_column)
    wanted += [name for name in facets if isinstance(schema.get(name), _STRINGS)]
    lazy = pl.scan_parquet(data.path)
    if data.split_column in schema:
        value = data.train_value if part == "train" else data.validation_value
        lazy = lazy.filter(pl.col(data.split_column) == value)
    try:
        return lazy.select(list(dict.fromkeys(wanted))).collect()
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DataError(f"{data.path}: cannot be read: {error}") from error


def _wanted_columns(data: DataConfig, task: TaskConfig) -> list[str]:
    needed = "split_column" in data.model_fields_set or data.validation_value is not None
    optional = (
        data.group_column,
        data.split_column if needed else None,
        *(getattr(data, column) for column in _FACETS if column in data.model_fields_set),
    )
    markers = (ENTITY, START, END) if task.entity_markers else ()
    return [
        data.text_column,
        data.labels_column,
        *markers,
        *(name for name in optional if name is not None),
    ]


def _require(name: str, schema: dict[str, pl.DataType], data: DataConfig) -> None:
    if name not in schema:
        close = nearest(name, schema)
        raise DataError(
            f"{data.path}: no column {name!r}; there are {listing(schema)}",
            hint=f"did you mean {close!r}?" if close else "name the column in the config",
        )


def _check_types(data: DataConfig, task: TaskConfig, schema: dict[str, pl.DataType]) -> None:
    texts = [data.text_column]
    if task.title and data.title_column in schema:
        texts.append(data.title_column)
    if task.entity_markers:
        texts.append(ENTITY)
    for name in texts:
        if schema[name] not in (pl.String, pl.Null):
            raise DataError(f"{data.path}: column {name!r} is {schema[name]}, not text")
    for name in (START, END) if task.entity_markers else ():
        if not schema[name].is_integer():
            raise DataError(f"{data.path}: column {name!r} is {schema[name]}, not whole numbers")
    for column in data.model_fields_set.intersection(_FACETS):
        name = getattr(data, column)
        if not isinstance(schema[name], _STRINGS):
            raise DataError(f"{data.path}: column {name!r} is {schema[name]}, not text")
    if data.group_column is not None and schema[data.group_column].is_nested():
        raise DataError(
            f"{data.path}: column {data.group_column!r} is {schema[data.group_column]}; expected "
            "one value a row"
        )
    labels = schema[data.labels_column]
    if labels not in (pl.String, pl.List(pl.String)):
        raise DataError(
            f"{data.path}: column {data.labels_column!r} is {labels}; expected a list of strings "
            "or a string"
        )


def _optional(frame: pl.DataFrame, name: str) -> list[str | None] | None:
    return frame[name].to_list() if name in frame.columns else None


def _label_lists(column: pl.Series) -> list[list[str]]:
    if column.dtype == pl.String:
        return [[] if label is None else [label] for label in column]
    return [[label for label in labels or () if label is not None] for labels in column.to_list()]
