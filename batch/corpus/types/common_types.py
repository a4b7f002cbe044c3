"""Common types: the type that can represent a column with different types in different files."""

from __future__ import annotations

import pyarrow as pa

from batch.corpus.types.output_types import MAX_DECIMAL_DIGITS, NoCommonTypeError
from schemas.tables import is_list

MANTISSA_BITS = {32: 24, 64: 53}
"""Bits of an integer that a float of that width represents exactly."""

UNITS = ("s", "ms", "us", "ns")


def common_type(first: pa.DataType, second: pa.DataType, *, narrow: bool) -> pa.DataType:
    """The type that can represent values of both types, which must be readable types.

    narrow: where the types alone do not decide, prefer the more specific one (int64 to double,
    string to binary); the caller must check that every value fits.
    Raises NoCommonTypeError.
    """
    if first == second or pa.types.is_null(second):
        return first
    if pa.types.is_null(first):
        return second
    if is_list(first) and is_list(second):
        return pa.list_(common_type(first.value_type, second.value_type, narrow=narrow))
    if pa.types.is_struct(first) and pa.types.is_struct(second):
        return _structs(first, second, narrow=narrow)
    if pa.types.is_map(first) and pa.types.is_map(second):
        key = common_type(first.key_type, second.key_type, narrow=narrow)
        return pa.map_(key, common_type(first.item_type, second.item_type, narrow=narrow))
    common = (
        _integers(first, second)
        or _floats(first, second, narrow=narrow)
        or _decimals(first, second)
        or _times(first, second)
        or _bytes(first, second, narrow=narrow)
    )
    if common is None:
        raise NoCommonTypeError(f"{first} and {second}")
    return common


def integer_digits(kind: pa.DataType) -> int:
    """Decimal digits of the largest value of an integer type."""
    bits = kind.bit_width - (1 if pa.types.is_signed_integer(kind) else 0)
    return len(str(2**bits - 1))


def _structs(first: pa.DataType, second: pa.DataType, *, narrow: bool) -> pa.DataType:
    """Fields of both, in the order in which they first appear."""
    types = {field.name: field.type for field in first}
    for field in second:
        first_type = types.get(field.name, pa.null())
        types[field.name] = common_type(first_type, field.type, narrow=narrow)
    return pa.struct([pa.field(name, kind) for name, kind in types.items()])


def _integers(first: pa.DataType, second: pa.DataType) -> pa.DataType | None:
    if not (pa.types.is_integer(first) and pa.types.is_integer(second)):
        return None
    if pa.types.is_signed_integer(first) == pa.types.is_signed_integer(second):
        return max(first, second, key=lambda kind: int(kind.bit_width))
    signed, unsigned = (first, second) if pa.types.is_signed_integer(first) else (second, first)
    bits = max(signed.bit_width, min(2 * unsigned.bit_width, 64))
    return {16: pa.int16(), 32: pa.int32(), 64: pa.int64()}[bits]


def _floats(first: pa.DataType, second: pa.DataType, *, narrow: bool) -> pa.DataType | None:
    floats = [kind for kind in (first, second) if pa.types.is_floating(kind)]
    integers = [kind for kind in (first, second) if pa.types.is_integer(kind)]
    if len(floats) == 2:
        return max(floats, key=lambda kind: int(kind.bit_width))
    if not (floats and integers):
        return None
    if integers[0].bit_width <= MANTISSA_BITS[floats[0].bit_width]:
        return floats[0]
    if integers[0].bit_width <= MANTISSA_BITS[64]:
        return pa.float64()
    return integers[0] if narrow else pa.float64()


def _decimals(first: pa.DataType, second: pa.DataType) -> pa.DataType | None:
    decimals = [kind for kind in (_as_decimal(first), _as_decimal(second)) if kind is not None]
    if len(decimals) < 2:
        return None
    scale = max(kind.scale for kind in decimals)
    whole_digits = max(kind.precision - kind.scale for kind in decimals)
    return pa.decimal128(min(whole_digits + scale, MAX_DECIMAL_DIGITS), scale)


def _as_decimal(kind: pa.DataType) -> pa.DataType | None:
    if pa.types.is_integer(kind):
        return pa.decimal128(integer_digits(kind), 0)
    return kind if pa.types.is_decimal(kind) else None


def _times(first: pa.DataType, second: pa.DataType) -> pa.DataType | None:
    stamps = [kind for kind in (first, second) if pa.types.is_timestamp(kind)]
    if len(stamps) == 2 and (first.tz is None) == (second.tz is None):
        zone = first.tz if first.tz == second.tz else "UTC"  # the same instants
        return pa.timestamp(_finer(first, second), zone)
    if len(stamps) == 1 and stamps[0].tz is None:
        counterpart = second if stamps[0] is first else first
        return pa.timestamp("us") if pa.types.is_date32(counterpart) else None
    if pa.types.is_duration(first) and pa.types.is_duration(second):
        return pa.duration(_finer(first, second))
    return None


def _finer(first: pa.DataType, second: pa.DataType) -> str:
    return UNITS[max(UNITS.index(first.unit), UNITS.index(second.unit))]


def _bytes(first: pa.DataType, second: pa.DataType, *, narrow: bool) -> pa.DataType | None:
    kinds = (first, second)
    if not all(pa.types.is_string(kind) or is_bytes(kind) for kind in kinds):
        return None
    any_text = any(pa.types.is_string(kind) for kind in kinds)
    return pa.string() if any_text and narrow else pa.binary()


def is_bytes(kind: pa.DataType) -> bool:
    """True for binary of any size; `kind` has no encoding."""
    return bool(pa.types.is_binary(kind) or pa.types.is_fixed_size_binary(kind))
