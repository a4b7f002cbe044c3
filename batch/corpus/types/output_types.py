"""Output types: the type that a pass-through column has in the predictions.

polars, DuckDB, pandas, pyarrow and Spark must be able to read every output type; docs/columns.md
has a table of input and output types. Must not read files.
"""

from __future__ import annotations

import zoneinfo
from collections.abc import Callable
from functools import lru_cache

import pyarrow as pa

from schemas.tables import is_list

MAX_DECIMAL_DIGITS = 38
"""Maximum digits of a decimal in Spark, DuckDB and polars."""

Leaf = Callable[[pa.DataType], pa.DataType]


class NoCommonTypeError(ValueError):
    """No single column type can represent the values of two types without changing them."""


@lru_cache
def plain_type(kind: pa.DataType) -> pa.DataType:
    """A type without its encoding: categories, views, 64-bit offsets and extension names.

    The values are the same, but not every reader supports every encoding.
    """
    return _rebuilt(kind, _plain_leaf)


@lru_cache
def readable_type(kind: pa.DataType) -> pa.DataType:
    """The type that every reader supports for such values; columns without a type stay `null`.

    Raises ValueError with the reason if there is no such type.
    """
    return _rebuilt(plain_type(kind), _readable_leaf)


@lru_cache
def typed(kind: pa.DataType) -> pa.DataType:
    """A type with string in place of null, at any depth.

    Readers disagree on columns without a type: Spark reads them as integers, and then cannot read
    them together with the predictions of a night on which the column had values.
    """
    return _rebuilt(kind, lambda leaf: pa.string() if pa.types.is_null(leaf) else leaf)


def holds_text(kind: pa.DataType) -> bool:
    """True for strings, and for nested types with strings inside; `kind` has no encoding."""
    return _holds(kind, pa.types.is_string)


@lru_cache
def holds_map(kind: pa.DataType) -> bool:
    """True for maps, and for nested types with maps inside; `kind` has no encoding."""
    return _holds(kind, pa.types.is_map)


def _holds(kind: pa.DataType, matches: Callable[[pa.DataType], bool]) -> bool:
    inner = (kind.field(index).type for index in range(kind.num_fields))
    return matches(kind) or any(_holds(below, matches) for below in inner)


def is_uuid(kind: pa.DataType) -> bool:
    """True for the extension type of UUIDs, which older pyarrow does not define."""
    return getattr(kind, "extension_name", None) == "arrow.uuid"


def nested_names(kind: pa.DataType) -> list[list[str]]:
    """Field names of every struct inside a type, one list per struct."""
    if is_list(kind):
        return nested_names(kind.value_type)
    if pa.types.is_map(kind):
        return [*nested_names(kind.key_type), *nested_names(kind.item_type)]
    if pa.types.is_struct(kind):
        below = [names for field in kind for names in nested_names(field.type)]
        return [[field.name for field in kind], *below]
    return []


def _rebuilt(kind: pa.DataType, leaf: Leaf) -> pa.DataType:
    """The type with `leaf` applied to every type that is not nested; all fields nullable."""
    if pa.types.is_dictionary(kind):
        return _rebuilt(kind.value_type, leaf)
    if isinstance(kind, pa.BaseExtensionType) and not is_uuid(kind):
        return _rebuilt(kind.storage_type, leaf)
    if is_list(kind):
        value = _rebuilt(kind.value_type, leaf)
        fixed = pa.types.is_fixed_size_list(kind) and kind.list_size > 0
        return pa.list_(value, kind.list_size) if fixed else pa.list_(value)
    if pa.types.is_map(kind):
        return pa.map_(_rebuilt(kind.key_type, leaf), _rebuilt(kind.item_type, leaf))
    if pa.types.is_struct(kind):
        if kind.num_fields == 0:
            raise ValueError("a struct without fields, which Parquet cannot represent")
        return pa.struct([pa.field(field.name, _rebuilt(field.type, leaf)) for field in kind])
    return leaf(kind)


def _plain_leaf(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return pa.string()
    if pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind):
        return pa.binary()
    if pa.types.is_decimal32(kind) or pa.types.is_decimal64(kind):
        return pa.decimal128(kind.precision, kind.scale)
    return kind


def _readable_leaf(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_float16(kind):
        return pa.float32()
    if pa.types.is_timestamp(kind):
        units = {"s": "ms", "ns": "us"}  # Parquet has no seconds, and Spark no nanoseconds
        return pa.timestamp(units.get(kind.unit, kind.unit), _known_zone(kind.tz))
    if pa.types.is_time(kind) or is_uuid(kind):
        return pa.string()
    if pa.types.is_decimal256(kind):
        fits = kind.precision <= MAX_DECIMAL_DIGITS
        return pa.decimal128(kind.precision, kind.scale) if fits else pa.string()
    if pa.types.is_date64(kind):
        return pa.date32()
    return kind


def _known_zone(zone: str | None) -> str | None:
    """The time zone, or UTC in place of one that polars and pandas do not know."""
    if zone is None:
        return None
    try:
        zoneinfo.ZoneInfo(zone)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        return "UTC"
    return zone
