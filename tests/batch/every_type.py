"""A corpus with a column of every Parquet type, and what readers make of the predictions."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

TEXTS = ["Aid is wasted by officials.", "Sanctions hurt us.", "Talks now, or war for ever."]
NOON = dt.datetime.fromisoformat("2024-05-01T12:00:00.000001")
SECOND = NOON.replace(microsecond=0)
FIRST, NEVER = map(dt.datetime.fromisoformat, ("0001-01-01", "9999-12-31"))
CATEGORY = pa.array(["a", None, "b"]).dictionary_encode()


def columns(kinds: dict[str, pa.DataType], values: list[Any]) -> dict[str, pa.Array]:
    return {name: pa.array(values, kind) for name, kind in kinds.items()}


EVERY_TYPE: dict[str, pa.Array] = {
    **{
        f"int{bits}": pa.array([1, None, -(2 ** (bits - 1))], f"int{bits}")
        for bits in (8, 16, 32, 64)
    },
    **{f"uint{bits}": pa.array([1, None, 2**bits - 1], f"uint{bits}") for bits in (8, 16, 32, 64)},
    **columns(
        {"half": pa.float16(), "float": pa.float32(), "double": pa.float64()}, [1.5, None, -0.0]
    ),
    "bool": pa.array([True, None, False]),
    "null": pa.nulls(3),
    "nulls in lists": pa.array([[], [None], None], pa.list_(pa.null())),
    **{
        f"at_{unit}": pa.array([SECOND, None, SECOND], pa.timestamp(unit))
        for unit in ("s", "ms", "us", "ns")
    },
    **{
        f"in {zone}": pa.array([NOON, None, NOON], pa.timestamp("ns", zone))
        for zone in ("UTC", "Europe/Kyiv", "+05:30", "Nowhere/Land")
    },
    "never": pa.array([NEVER, None, FIRST], pa.timestamp("us")),
    "date": pa.array([NOON.date(), None, NOON.date()], pa.date32()),
    **columns(
        {
            "time_s": pa.time32("s"),
            "time_ms": pa.time32("ms"),
            "time_us": pa.time64("us"),
            "time_ns": pa.time64("ns"),
        },
        [1, None, 2],
    ),
    **columns(
        {f"duration_{unit}": pa.duration(unit) for unit in ("s", "ms", "us", "ns")},
        [1000, None, 2000],
    ),
    **columns(
        {
            "decimal32": pa.decimal32(5, 2),
            "decimal64": pa.decimal64(15, 2),
            "decimal128": pa.decimal128(38, 2),
            "decimal256": pa.decimal256(20, 2),
            "long decimal": pa.decimal256(60, 2),
        },
        [Decimal("1.10"), None, Decimal("-3.30")],
    ),
    **columns(
        {"string": pa.string(), "large_string": pa.large_string(), "string_view": pa.string_view()},
        ["a", None, "more than twelve bytes"],
    ),
    **columns(
        {"binary": pa.binary(), "large_binary": pa.large_binary(), "binary_view": pa.binary_view()},
        [b"\xff", None, b"more than twelve bytes"],
    ),
    "two bytes": pa.array([b"ab", None, b"\xff\xfe"], pa.binary(2)),
    "uuid": pa.array([b"\0" * 16, None, b"\1" * 16], pa.uuid()),
    "json": pa.array(["{}", None, "[1]"], pa.json_()),
    "category": CATEGORY,
    "categories": pa.ListArray.from_arrays([0, 1, 1, 3], CATEGORY),
    **columns(
        {
            "list": pa.list_(pa.int64()),
            "large_list": pa.large_list(pa.int64()),
            "list_view": pa.list_view(pa.int64()),
            "fixed list": pa.list_(pa.int64(), 2),
        },
        [[1, 2], None, [None, 3]],
    ),
    "times in lists": pa.array([[NOON], None, [None]], pa.list_(pa.timestamp("ns"))),
    "struct": pa.array(
        [{"a": 1, "at": NOON}, None, {"a": None, "at": None}],
        pa.struct({"a": pa.int64(), "at": pa.timestamp("ns")}),
    ),
    "map": pa.array([[("k", 1)], None, []], pa.map_(pa.string(), pa.int64())),
    "map of times": pa.array(
        [[(NOON, [0.5])], None, []], pa.map_(pa.timestamp("ns"), pa.list_(pa.float16()))
    ),
    "a.b `c` ,;{}()=": pa.array([1, None, 2]),
    "line\nbreak\t": pa.array([1, None, 2]),
    "скриня 🦊": pa.array(["é", None, "中"]),
    "": pa.array([1, None, 2]),
}


def write_every_type(folder: Path) -> Path:
    """A corpus of two files whose columns differ in order, and in type where that is allowed."""
    folder.mkdir()
    pq.write_table(pa.table({**EVERY_TYPE, "text": TEXTS}), folder / "a.parquet")
    texts = {"text": TEXTS, "string": CATEGORY, "int64": pa.array([None, 1.0, 2.0])}
    pq.write_table(pa.table(texts), folder / "b.parquet")
    return folder


def comparable(value: Any) -> Any:
    """A value as any reader's Python objects have it: dicts, lists, bytes, UTC."""
    if isinstance(value, dt.datetime):
        return value if value.tzinfo is None else value.astimezone(dt.UTC)
    if isinstance(value, bytearray):
        return bytes(value)
    if isinstance(value, dict):
        return {comparable(key): comparable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [comparable(item) for item in value]
    return value


def expected_rows(predictions: Path) -> list[dict[str, Any]]:
    """Rows of predictions as pyarrow reads them; durations as numbers, maps as dicts."""
    table = pa.concat_tables([pq.read_table(path) for path in sorted(predictions.iterdir())])
    rows: list[dict[str, Any]] = [{} for _ in range(len(table))]
    for field in table.schema:
        column = table.column(field.name)
        if pa.types.is_duration(field.type):
            column = column.cast(pa.int64())
        for row, value in zip(rows, column.to_pylist(), strict=True):
            is_map = pa.types.is_map(field.type) and value is not None
            row[field.name] = comparable(dict(value) if is_map else value)
    return rows
