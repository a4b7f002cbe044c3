"""Values of Arrow columns as Python sees them: text of any string type, gold labels, domains."""

from __future__ import annotations

from itertools import islice

import pyarrow as pa
import pyarrow.compute as pc

from schemas.tables import is_text


class BadText(str):
    """Stands for bytes that are not UTF-8; its value is the reason."""


def decode_text(column: pa.Array) -> list[str | None]:
    """Values of a string or binary column; a BadText for bytes that are not UTF-8."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if not _is_binary(column.type):
        try:
            values: list[str | None] = column.to_pylist()
            return values
        except UnicodeDecodeError:
            column = _as_binary(column)
    return [None if value is None else _decode(value) for value in column.to_pylist()]


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
    """Gold labels of each row, from a column of lists or of single labels."""
    if column.null_count == len(column):  # of any type, perhaps of none
        return [None] * len(column)
    if is_text(column.type):
        return [None if label is None else [label] for label in decode_text(column)]
    lengths = pc.list_value_length(column).to_pylist()
    names = iter(decode_text(column.flatten()))
    return [
        None if length is None else [name for name in islice(names, length) if name is not None]
        for length in lengths
    ]


def _decode(value: bytes) -> str:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError as error:
        return BadText(
            f"not UTF-8: byte 0x{value[error.start]:02x} at position {error.start} ({error.reason})"
        )


def _is_binary(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind)
    )


def _as_binary(column: pa.Array) -> pa.Array:
    views = {
        pa.string(): pa.binary(),
        pa.large_string(): pa.large_binary(),
        pa.string_view(): pa.binary_view(),
    }
    return column.view(views[column.type])


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
    except ValueError:  # nanoseconds, which Python does not have
        return False
    return False
