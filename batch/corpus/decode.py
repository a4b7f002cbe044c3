"""Values of Arrow columns as Python sees them: text of any string type, gold labels, domains."""

from __future__ import annotations

import pyarrow as pa

from schemas.text.arrow_text import BadText, decode_text

__all__ = ["BadText", "as_dates", "bad_utf8", "decode_text", "plain_values"]


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


def as_dates(column: pa.Array) -> pa.Array:
    """Dates and times written out by Arrow: Python has no nanoseconds, and no year 10,000.

    In UTC where their time zone is not known.
    """
    try:
        return column.cast(pa.string())
    except pa.ArrowException:
        return column.cast(pa.timestamp(column.type.unit, "UTC")).cast(pa.string())


def bad_utf8(column: pa.Array) -> list[int]:
    """Rows of a column, nested or not, with a string that is not UTF-8."""
    try:
        column.validate(full=True)
    except pa.ArrowException:
        return [row for row, value in enumerate(column) if _is_bad(value)]
    return []


def _is_bad(value: pa.Scalar) -> bool:
    try:
        value.as_py()
    except UnicodeDecodeError:
        return True
    return False
