"""Values of Arrow columns as Python sees them: text of any string type, gold labels, domains."""

from __future__ import annotations

import pyarrow as pa

from batch.corpus.footers import PlannedFile
from schemas.arrow_text import BadText, decode_text, label_lists
from schemas.errors import CorpusError

__all__ = ["BadText", "as_dates", "decode_text", "gold_lists", "plain_values"]


def plain_values(column: pa.Array) -> list[object]:
    """Values of a column that is no text; None for lists and the like with bytes not UTF-8."""
    try:
        values: list[object] = column.to_pylist()
        return values
    except UnicodeDecodeError:
        return [_plain_value(value) for value in column]


def _plain_value(value: pa.Scalar) -> object:
    try:
        return value.as_py()
    except UnicodeDecodeError:
        return None


def gold_lists(column: pa.Array) -> list[list[str] | None]:
    """Gold labels of each row, from a column of lists or of single labels; None: not labelled."""
    return label_lists(column)


def as_dates(column: pa.Array, name: str, file: PlannedFile) -> pa.Array:
    """Dates and times written out by Arrow: Python has no nanoseconds, and no year 10,000."""
    try:
        return column.cast(pa.string())
    except pa.ArrowException as error:
        raise CorpusError(
            f"{file.source.name}: domain column {name!r} is {column.type} and cannot be written "
            f"out: {error}",
            hint="name another column with --domain-column",
        ) from error
