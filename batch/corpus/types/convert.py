"""Lossless conversion of Arrow columns; a value that would change is an error."""

from __future__ import annotations

import uuid
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from batch.corpus.types.common_types import MANTISSA_BITS, integer_digits
from batch.corpus.types.output_types import holds_map, is_uuid, plain_type
from schemas.tables import is_list


class LossError(ValueError):
    """A value that the target type cannot represent. reason: why not. hint: what to do."""

    def __init__(self, reason: str, hint: str = "write the column with one type in every file"):
        super().__init__(reason)
        self.reason, self.hint = reason, hint


def is_exact(source: pa.DataType, target: pa.DataType) -> bool:
    """True if the types alone prove that `convert` loses no value of `source`."""
    source = plain_type(source)
    if pa.types.is_null(source):
        return True
    if pa.types.is_map(source):
        return False  # DuckDB refuses duplicate keys, and Spark drops one of them
    if is_list(source):
        return is_list(target) and is_exact(source.value_type, target.value_type)
    if pa.types.is_struct(source):
        if not pa.types.is_struct(target):
            return False
        fields = {field.name: field.type for field in target}
        return all(is_exact(field.type, fields[field.name]) for field in source)
    return source == target or _widens(source, target)


def convert(column: pa.Array, target: pa.DataType) -> pa.Array:
    """The same values in another type. Raises LossError if a value would change.

    target: a type that `output_types` and `common_types` chose for this column.
    """
    column = _without_encoding(column)
    if pa.types.is_map(column.type) and pa.types.is_map(target):
        return _maps(column, target)
    if column.type == target and not holds_map(target):
        return column
    if column.null_count == len(column):
        return pa.nulls(len(column), target)
    if is_list(column.type) and is_list(target):
        return _lists(column, target)
    if pa.types.is_struct(column.type) and pa.types.is_struct(target):
        return _structs(column, target)
    return _leaves(column, target)


def _without_encoding(column: pa.Array) -> pa.Array:
    if isinstance(column, pa.ExtensionArray):
        return _uuids(column) if is_uuid(column.type) else _without_encoding(column.storage)
    if pa.types.is_dictionary(column.type):
        return _without_encoding(column.dictionary_decode())
    return column


def _leaves(column: pa.Array, target: pa.DataType) -> pa.Array:
    if pa.types.is_floating(column.type) and pa.types.is_integer(target):
        _check_whole(column)
    if pa.types.is_integer(column.type) and pa.types.is_floating(target):
        return _floats(column, target)
    try:
        return pc.cast(column, target)
    except pa.ArrowException as error:
        raise _loss(column.type, target) from error


def _loss(source: pa.DataType, target: pa.DataType) -> LossError:
    """The error for a failed cast between these types."""
    if pa.types.is_timestamp(source) and source.unit == "ns":
        return LossError(
            "has digits below a microsecond, which Spark cannot read",
            "round the column to microseconds, or write it as int64 or as a string",
        )
    if pa.types.is_string(target):
        return LossError("is not UTF-8, and other files have the column as text")
    return LossError(f"does not fit {target}, the type of the column across all files")


def _lists(column: pa.Array, target: pa.DataType) -> pa.Array:
    lengths = pc.list_value_length(column)
    values = column.flatten()  # without those of null lists
    if pa.types.is_fixed_size_list(target):
        return _fixed_lists(column, values, target)
    ends = np.cumsum(pc.fill_null(lengths, 0).to_numpy(zero_copy_only=False))
    offsets = np.concatenate([[0], ends]).astype(np.int32)
    starts_null = np.append(column.is_null().to_numpy(zero_copy_only=False), False)
    converted = convert(values, target.value_type)
    return pa.ListArray.from_arrays(
        pa.array(offsets, pa.int32(), mask=starts_null), converted, type=target
    )


def _fixed_lists(column: pa.Array, values: pa.Array, target: pa.DataType) -> pa.Array:
    valid = column.is_valid().to_numpy(zero_copy_only=False)
    size, lists = target.list_size, int(valid.sum())
    if len(values) != size * lists:
        raise LossError(f"does not fit {target}")
    slots = np.zeros((len(column), size), dtype=np.int64)
    slots[valid] = np.arange(lists * size).reshape(lists, size)
    indices = pa.array(slots.ravel(), mask=np.repeat(~valid, size))
    filled = convert(values, target.value_type).take(indices)
    return pa.FixedSizeListArray.from_arrays(filled, type=target, mask=pa.array(~valid))


def _structs(column: pa.Array, target: pa.DataType) -> pa.Array:
    children = dict(zip([field.name for field in column.type], column.flatten(), strict=True))
    arrays = [
        convert(children[field.name], field.type)
        if field.name in children
        else pa.nulls(len(column), field.type)
        for field in target
    ]
    return pa.StructArray.from_arrays(arrays, fields=list(target), mask=column.is_null())


def _maps(column: pa.Array, target: pa.DataType) -> pa.Array:
    offsets = column.offsets.to_numpy()
    first, last = int(offsets[0]), int(offsets[-1])
    keys = convert(column.keys.slice(first, last - first), target.key_type)
    items = convert(column.items.slice(first, last - first), target.item_type)
    _check_keys(keys, offsets - first, column)
    starts_null = np.append(column.is_null().to_numpy(zero_copy_only=False), False)
    starts = pa.array((offsets - first).astype(np.int32), pa.int32(), mask=starts_null)
    return pa.MapArray.from_arrays(starts, keys, items, type=target)


def _check_keys(keys: pa.Array, offsets: np.ndarray[Any, Any], column: pa.Array) -> None:
    if pa.types.is_nested(keys.type):
        names: Any = [repr(key) for key in keys.to_pylist()]
        codes = pa.array(names, pa.string()).dictionary_encode().indices.to_numpy()
    else:
        codes = keys.dictionary_encode().indices.to_numpy(zero_copy_only=False)
    rows = np.repeat(np.arange(len(column)), np.diff(offsets))
    if len(np.unique(np.stack([rows, codes]), axis=1).T) < len(codes):
        raise LossError(
            "has a duplicate key in one map, which DuckDB refuses and Spark drops",
            "write the column as a list of structs",
        )


def _check_whole(column: pa.Array) -> None:
    values = column.drop_null().to_numpy(zero_copy_only=False).astype(np.float64)
    is_whole = np.isfinite(values) & (np.floor(values) == values)
    negative_zero = (values == 0) & np.signbit(values)
    if not is_whole.all() or negative_zero.any():
        raise LossError("is not a whole number, and other files have the column as integers")


def _floats(column: pa.Array, target: pa.DataType) -> pa.Array:
    """Integers as floats if that is exact, which it may be even above 2**53."""
    floats = pc.cast(column, target, safe=False)
    values = column.drop_null().to_pylist()
    if MANTISSA_BITS[target.bit_width] < column.type.bit_width and values != [
        int(value) for value in floats.drop_null().to_pylist()
    ]:
        raise LossError(
            f"is not exact as {target}, the type of the column in other files",
            "write the column as integers in every file (in pandas: Int64)",
        )
    return floats


def _uuids(column: pa.ExtensionArray) -> pa.Array:
    values = column.storage.to_pylist()
    texts = [None if value is None else str(uuid.UUID(bytes=value)) for value in values]
    return pa.array(texts, pa.string())


def _widens(source: pa.DataType, target: pa.DataType) -> bool:
    """True if the target can represent every value of the source; not for nested types."""
    if pa.types.is_integer(source):
        return _integer_widens(source, target)
    if pa.types.is_floating(source):
        return bool(pa.types.is_floating(target) and source.bit_width <= target.bit_width)
    if pa.types.is_decimal(source) and pa.types.is_decimal(target):
        fits = target.precision - target.scale >= source.precision - source.scale
        return bool(fits and target.scale >= source.scale)
    if pa.types.is_timestamp(source) and pa.types.is_timestamp(target):
        both_aware = source.tz is not None and target.tz is not None
        return bool(source.unit == target.unit and (both_aware or source.tz == target.tz))
    if pa.types.is_string(target):
        return bool(pa.types.is_time(source) or pa.types.is_decimal(source) or is_uuid(source))
    return bool(pa.types.is_binary(target))  # from strings and bytes of fixed size


def _integer_widens(source: pa.DataType, target: pa.DataType) -> bool:
    if pa.types.is_floating(target):
        return bool(source.bit_width <= MANTISSA_BITS[target.bit_width])
    if pa.types.is_decimal(target):
        return bool(integer_digits(source) <= target.precision - target.scale)
    if not pa.types.is_integer(target):
        return False
    same_sign = pa.types.is_signed_integer(source) == pa.types.is_signed_integer(target)
    wider = source.bit_width < target.bit_width
    signed = pa.types.is_signed_integer(target)
    return bool((same_sign and source.bit_width <= target.bit_width) or (wider and signed))
