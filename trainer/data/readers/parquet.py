"""Reader for Parquet with a text column and a labels column."""

from __future__ import annotations

import logging
import math
from collections import defaultdict
from collections.abc import Hashable, Iterator, Sequence
from typing import Any, NamedTuple

import pyarrow as pa

from schemas.config.models import DataConfig, TaskConfig
from schemas.errors import DataError
from schemas.kinds import KINDS
from schemas.kinds.token import GoldSpan
from schemas.tables import END, ENTITY, START, is_text
from schemas.text.arrow_text import BadText, decode_text
from schemas.text.model_text import Article
from trainer.data.readers.columns import (
    check_columns,
    has_ids,
    has_words,
    required_columns,
    used_columns,
)
from trainer.data.readers.files import list_files
from trainer.data.readers.parts import refuse_unmatched, rows_of_part
from trainer.data.readers.rows import LabelledRows, row_id
from trainer.data.readers.tables import OpenFile, open_file
from trainer.data.readers.tagged import gold_of_tags, text_of_words

UNLABELLED = "are not labelled: {labels_column} is null or blank"
NOT_UTF8 = "hold bytes that are not UTF-8"
NO_OFFSETS = "have no offsets: `start` or `end` is null"

log = logging.getLogger(__name__)


class _Row(NamedTuple):
    """A row as it was read; `problem` says why it is left out."""

    name: str
    id: str
    article: Article
    gold: Any
    group: Hashable
    domain: str | None
    language: str | None
    problem: str | None


def read_parquet_part(data: DataConfig, task: TaskConfig, part: str) -> LabelledRows:
    """Read the rows of one part, with only the columns that the task needs.

    Left out, and counted in the log, are rows that are not labelled (null), rows with bytes that
    are not UTF-8, and for tasks with entity markers rows without offsets.
    Raises DataError if a file cannot be read, a column is missing or is not of the right type, no
    row is of the part, or none can be used.
    """
    files = [open_file(file) for file in list_files(data.path)]
    split = data.split_column
    with_split = [file for file in files if split in file.columns]
    needed = required_columns(data, task) + [split] * bool(with_split)
    for file in files:
        check_columns(file, needed, data, task)
    rows = [row for file in files for row in _rows_of(file, data, task, part)]
    if not rows and (with_split or data.only):
        refuse_unmatched(files, data, part)
    usable = _leave_out(rows, data, part)
    has_groups = data.group_column is not None
    return LabelledRows(
        source=str(data.path),
        articles=[row.article for row in usable],
        gold=[row.gold for row in usable],
        groups=[row.group for row in usable] if has_groups else None,
        domains=[row.domain for row in usable] if _has_text(files, data.domain_column) else None,
        languages=[row.language for row in usable]
        if _has_text(files, data.language_column)
        else None,
        row_names=[row.name for row in usable],
        ids=[row.id for row in usable],
    )


def _rows_of(file: OpenFile, data: DataConfig, task: TaskConfig, part: str) -> Iterator[_Row]:
    first = 0
    for batch in file.batches(used_columns(file, data, task)):
        of_part = rows_of_part(batch, file, data, part)
        if of_part:
            yield from _decode(batch, of_part, first, file, data, task)
        first += batch.num_rows


def _decode(
    batch: pa.RecordBatch,
    of_part: Sequence[int],
    first: int,
    file: OpenFile,
    data: DataConfig,
    task: TaskConfig,
) -> Iterator[_Row]:
    """Rows of one part. of_part: their places in the batch; first: row of the file it begins at."""
    names = [f"{file.path}, row {first + row}" for row in of_part]
    nothing: list[None] = [None] * len(names)

    def values(name: str) -> list[Any]:
        column = file.array(batch, name)
        decoded = decode_text(column) if is_text(column.type) else column.to_pylist()
        return [decoded[row] for row in of_part]

    def texts(name: str, *, wanted: bool = True) -> list[str | None]:
        is_there = wanted and is_text(file.columns.get(name, pa.null()))
        return values(name) if is_there else list(nothing)

    starts, ends = (
        _whole_numbers(values(name), name, names) if task.entity_markers else nothing
        for name in (START, END)
    )
    kind = KINDS[task.kind]
    bodies: list[str | None]
    gold: list[Any]
    if has_words(file, data, task):
        words, tags = (
            file.array(batch, name).to_pylist() for name in (data.text_column, data.labels_column)
        )
        bodies = [None if words[row] is None else text_of_words(words[row]) for row in of_part]
        gold = [
            _tagged(words[row], tags[row], name) for row, name in zip(of_part, names, strict=True)
        ]
    else:
        bodies = texts(data.text_column)
        gold_of_all = kind.read_gold(
            file.array(batch, data.labels_column) if kind.HAS_LABELS else pa.nulls(batch.num_rows)
        )
        gold = [gold_of_all[row] for row in of_part]
    ids = values(data.id_column) if has_ids(file, data, task) else nothing
    columns = zip(
        names,
        [_id(ids[at], file, first + row) for at, row in enumerate(of_part)],
        bodies,
        texts(data.title_column, wanted=task.title),
        texts(ENTITY, wanted=task.entity_markers),
        starts,
        ends,
        gold,
        values(data.group_column) if data.group_column else nothing,
        texts(data.domain_column),
        texts(data.language_column),
        strict=True,
    )
    for name, own_id, text, title, entity, start, end, of_row, group, domain, language in columns:
        article = Article(text, title, entity, start, end)
        if of_row is not None and (misfit := kind.gold_problem(of_row, text or "")) is not None:
            raise DataError(
                f"{name}: {misfit}",
                hint="offsets count characters, not bytes, and the end is exclusive",
            )
        problem = _problem(article, of_row, data, task)
        yield _Row(name, own_id, article, of_row, group, _good(domain), _good(language), problem)


def _id(value: str | int | None, file: OpenFile, row: int) -> str:
    """Id of a row: what the column of ids has, else the file and the row."""
    if value is None or isinstance(value, BadText) or not str(value).strip():
        return row_id(file.path, row)
    return str(value)


def _tagged(
    words: Sequence[str] | None, tags: Sequence[str] | None, name: str
) -> tuple[GoldSpan, ...] | None:
    """Gold spans of tagged words; None for a row without either. Raises DataError."""
    if words is None or tags is None:
        return None
    try:
        return gold_of_tags(words, tags)
    except ValueError as error:
        raise DataError(f"{name}: {error}") from error


def _problem(article: Article, gold: Any, data: DataConfig, task: TaskConfig) -> str | None:
    """Why a row cannot be used, or None."""
    if gold is None:
        return UNLABELLED.format(labels_column=data.labels_column)
    texts = (article.text, article.title, article.entity)
    if any(isinstance(text, BadText) for text in texts):
        return NOT_UTF8
    if task.entity_markers and (article.start is None or article.end is None):
        return NO_OFFSETS
    return None


def _whole_numbers(values: list[Any], name: str, rows: list[str]) -> list[int | None]:
    """Character offsets; pandas makes floats of whole numbers where one is missing."""
    offsets: list[int | None] = []
    for value, row in zip(values, rows, strict=True):
        missing = value is None or math.isnan(value)
        if not missing and not float(value).is_integer():
            raise DataError(
                f"{row}: column {name!r} is {value}, not a whole number",
                hint="offsets count characters; correct the row, or leave it out",
            )
        offsets.append(None if missing else int(value))
    return offsets


def _good(value: str | None) -> str | None:
    return None if isinstance(value, BadText) else value


def _has_text(files: list[OpenFile], column: str) -> bool:
    return any(column in file.columns and is_text(file.columns[column]) for file in files)


def _leave_out(rows: list[_Row], data: DataConfig, part: str) -> list[_Row]:
    """The rows without a problem; the others are counted in the log."""
    problems: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        if row.problem is not None:
            problems[row.problem].append(row.name)
    lines = [
        f"{len(names)} of {len(rows)} {part} rows {problem} (first: {names[0]})"
        for problem, names in problems.items()
    ]
    usable = [row for row in rows if row.problem is None]
    if rows and not usable:
        raise DataError(
            f"{data.path}: no {part} row can be used: {'; '.join(lines)}",
            hint="an empty list says that a row is labelled and that no label applies",
        )
    for line in lines:
        log.warning("%s: left out: %s", data.path, line)
    return usable
