"""Text and labels in Arrow columns, as Python values; training and scoring read the same types."""

from __future__ import annotations

from itertools import islice

import pyarrow as pa
import pyarrow.compute as pc

from schemas.tables import is_list, is_text


class BadText(str):
    """Stands for bytes that are not UTF-8; its value is the reason."""


def decode_text(column: pa.Array) -> list[str | None]:
    """Values of a column of text or of nulls; a BadText for bytes that are not UTF-8."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if not _is_binary(column.type):
        try:
            values: list[str | None] = column.to_pylist()
            return values
        except UnicodeDecodeError:
            column = _as_binary(column)
    return [None if value is None else _decode(value) for value in column.to_pylist()]


def holds_labels(kind: pa.DataType) -> bool:
    """True for text, lists of text of every Arrow list type, and columns or lists of nulls only."""
    values = kind.value_type if is_list(kind) else kind
    return is_text(values) or bool(pa.types.is_null(values))


def label_lists(column: pa.Array) -> list[list[str] | None]:
    """Labels of each row; None where a row is not labelled.

    column: of a type that `holds_labels`. Not labelled are a null, and in a column of single labels
    a blank string, as CSV writes a missing value. An empty list is a row that is labelled, and to
    which no label applies; a null inside a list is ignored. A label whose bytes are not UTF-8 is a
    BadText.
    """
    if not is_list(column.type):
        labels = decode_text(column)
        return [[label] if label is not None and label.strip() else None for label in labels]
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
