"""Columns with different types in two files: a type that preserves all values, or an error."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from schemas.errors import CorpusError
from tests.batch.planning import column, kept

Write = Callable[..., Path]
Taken = Callable[..., pa.ChunkedArray]


S = dt.datetime.fromisoformat("2024-05-01")
US, MS, NS = pa.timestamp("us"), pa.timestamp("ms"), pa.timestamp("ns")
UTC, KYIV = pa.timestamp("us", "UTC"), pa.timestamp("us", "Europe/Kyiv")
BIG = 2**60 + 1
DEC, MAP, TEXT = pa.decimal128, pa.map_, pa.string()
UUID = "00000000-0000-0000-0000-000000000000"
LIST, LARGE, FIXED = pa.list_(pa.int64()), pa.large_list(pa.int64()), pa.list_(pa.int64(), 2)

# Values and type of two files, and the type of the predictions; None where the plan refuses.
PAIRS: list[tuple[list[Any], pa.DataType, list[Any], pa.DataType, pa.DataType | None]] = [
    ([1], pa.int8(), [2**31], pa.int64(), pa.int64()),
    ([1], pa.int8(), [200], pa.uint8(), pa.int16()),
    ([-1], pa.int64(), [2**32 - 1], pa.uint32(), pa.int64()),
    ([-1], pa.int64(), [5], pa.uint64(), pa.int64()),
    ([-1], pa.int64(), [2**64 - 1], pa.uint64(), None),
    ([5], pa.uint8(), [2**64 - 1], pa.uint64(), pa.uint64()),
    ([BIG], pa.int64(), [1.0, None, 2.0], pa.float64(), pa.int64()),
    ([1, 2], pa.int64(), [1.5, None], pa.float64(), pa.float64()),
    ([1, 2], pa.int64(), [float("inf")], pa.float64(), pa.float64()),
    ([2**60], pa.int64(), [1.5], pa.float64(), pa.float64()),
    ([BIG], pa.int64(), [1.5], pa.float64(), None),
    ([BIG], pa.int64(), [-0.0], pa.float64(), None),
    ([BIG], pa.int64(), [1.0], pa.float32(), pa.int64()),
    ([7], pa.int32(), [0.1], pa.float32(), pa.float64()),
    ([7], pa.int16(), [0.5], pa.float32(), pa.float32()),
    ([7], pa.int64(), [0.5], pa.float16(), pa.float64()),
    ([0.5], pa.float32(), [0.1], pa.float64(), pa.float64()),
    ([True], pa.bool_(), [1], pa.int64(), None),
    ([True], pa.bool_(), [None], pa.float64(), pa.bool_()),
    (["a"], TEXT, [None, None], pa.float64(), TEXT),
    (["a"], TEXT, [1.0, None], pa.float64(), None),
    (["a"], TEXT, [1], pa.int64(), None),
    (["a"], TEXT, [None], pa.null(), TEXT),
    ([None], pa.null(), [None], pa.null(), TEXT),
    (["a"], TEXT, ["b"], pa.large_string(), TEXT),
    (["a"], TEXT, ["longer than twelve bytes"], pa.string_view(), TEXT),
    (["a"], TEXT, [b"b"], pa.binary(), TEXT),
    ([b"\xff"], pa.binary(), [b"b"], pa.large_binary(), pa.binary()),
    ([b"ab"], pa.binary(2), [b"\xffbc"], pa.binary(3), pa.binary()),
    ([Decimal("1.10")], DEC(5, 2), [Decimal("-1.234")], DEC(9, 3), DEC(9, 3)),
    ([Decimal("1.10")], pa.decimal32(5, 2), [Decimal("1.1")], pa.decimal64(15, 1), DEC(16, 2)),
    ([Decimal("1.1")], DEC(38, 1), [Decimal("1.123")], DEC(38, 3), DEC(38, 3)),
    ([Decimal(10**36)], DEC(38, 0), [Decimal("1.123")], DEC(38, 3), None),
    ([BIG], pa.int64(), [Decimal("1.5")], DEC(5, 1), DEC(20, 1)),
    ([1.5], pa.float64(), [Decimal("1.5")], DEC(5, 1), None),
    ([S], US, [S], MS, US),
    ([S], US, [S], NS, US),
    ([S], UTC, [S], KYIV, UTC),
    ([S], US, [S], UTC, None),
    ([S], UTC, [None], US, UTC),
    ([S], US, [S.date()], pa.date32(), US),
    ([S], UTC, [S.date()], pa.date32(), None),
    ([S.date()], pa.date32(), [S.date()], pa.date64(), pa.date32()),
    ([dt.timedelta(1)], pa.duration("ms"), [dt.timedelta(2)], pa.duration("us"), pa.duration("us")),
    ([[1]], LIST, [[2], None, [None]], LARGE, LIST),
    ([[1]], LIST, [[2], None, []], pa.list_view(pa.int64()), LIST),
    ([[1, 2], None], FIXED, [[None, 3]], FIXED, FIXED),
    ([[1]], LIST, [[2, 3], None], FIXED, LIST),
    ([[1, 2]], FIXED, [[1], None], pa.list_(pa.int64(), 1), LIST),
    ([[BIG], None], LIST, [[2.0, None], None], pa.list_(pa.float64()), LIST),
    ([[BIG]], LIST, [[2.5]], pa.list_(pa.float64()), None),
    ([["a"]], pa.list_(TEXT), [[], [None], None], pa.list_(pa.null()), pa.list_(TEXT)),
    ([[]], pa.list_(pa.null()), [None], pa.list_(pa.null()), pa.list_(TEXT)),
    ([[1]], LIST, [1], pa.int64(), None),
    ([b"0" * 16], pa.uuid(), [b"1" * 16], pa.binary(16), None),
]  # fmt: skip


@pytest.mark.parametrize(("ours", "kind", "theirs", "other", "expected"), PAIRS, ids=str)
@pytest.mark.parametrize("swapped", [False, True], ids=["as listed", "swapped"])
def test_two_types_of_a_column_become_one_that_preserves_values(
    both: Taken,
    ours: list[Any],
    kind: pa.DataType,
    theirs: list[Any],
    other: pa.DataType,
    expected: pa.DataType | None,
    swapped: bool,
) -> None:
    """Every pair of types that Arrow would promote: all values as they were, or no run at all."""
    columns = [column(ours, kind), column(theirs, other)]
    columns = columns[::-1] if swapped else columns
    if expected is None:
        with pytest.raises(CorpusError, match="column 'c'"):
            both(*columns)
        return
    scored = both(*columns)
    values = [plain(value) for one in columns for value in one.to_pylist()]

    assert scored.type == expected
    assert [plain(value) for value in scored.to_pylist()] == values


def plain(value: Any) -> Any:
    """A value normalized across types: bytes for text, a timestamp for a date or time."""
    if isinstance(value, bytes):
        return value.decode(errors="surrogateescape")
    if isinstance(value, dt.datetime):
        return value.replace(tzinfo=dt.UTC) if value.tzinfo is None else value.astimezone(dt.UTC)
    if isinstance(value, dt.date):
        return dt.datetime(value.year, value.month, value.day, tzinfo=dt.UTC)
    return value


def test_structs_get_the_fields_of_all_files(both: Taken) -> None:
    """A field that a file lacks is null, also in structs inside lists."""
    first = pa.array([[{"a": 1, "b": "x"}], None])
    second = pa.array([[{"c": 1.5, "a": 2}, None]])

    assert both(first, second).to_pylist() == [
        [{"a": 1, "b": "x", "c": None}],
        None,
        [{"a": 2, "b": None, "c": 1.5}, None],
    ]


def test_a_category_and_a_string_are_one_column(both: Taken) -> None:
    """Dictionaries of any index type, ordered or not, nested or not, and plain strings."""
    small = pa.DictionaryArray.from_arrays(pa.array([0, None], pa.int8()), ["a", "b"], ordered=True)
    scored = both(small, pa.array(["b", None]).dictionary_encode(), pa.array(["c"]))
    nested = pa.ListArray.from_arrays([0, 1], pa.array(["a"]).dictionary_encode())

    assert scored.type == pa.string()
    assert scored.to_pylist() == ["a", None, "b", None, "c"]
    assert both(nested, pa.array([["b"]])).to_pylist() == [["a"], ["b"]]


def test_many_categories_do_not_overflow_a_small_index(write: Write) -> None:
    """Row groups may have different dictionaries, together larger than the range of int8."""
    pieces = [pa.array([f"{part}-{n}" for n in range(100)]).dictionary_encode() for part in "abc"]
    narrow = pa.chunked_array([p.cast(pa.dictionary(pa.int8(), pa.string())) for p in pieces])
    corpus = write({"text": ["aid"] * 300, "c": narrow}, row_group_size=100)

    assert kept(corpus).column("c").to_pylist() == narrow.to_pylist()
