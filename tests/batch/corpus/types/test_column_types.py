"""Types that a reader of predictions lacks: values are preserved in another type, or an error."""

from __future__ import annotations

import datetime as dt
import struct
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from batch.corpus.plan import make_plan
from batch.corpus.tasks import RunTasks
from batch.corpus.types.convert import convert
from batch.corpus.types.output_types import readable_type, typed
from schemas.errors import CorpusError, StoppedError
from tests.batch.every_type import EVERY_TYPE
from tests.batch.planning import SPEC, column, kept, options, planned
from tests.label_tasks import KIND

Write = Callable[..., Path]
Taken = Callable[..., pa.ChunkedArray]

S = dt.datetime.fromisoformat("2024-05-01")
US, NS = pa.timestamp("us"), pa.timestamp("ns")
UTC, BIG = pa.timestamp("us", "UTC"), 2**60 + 1
DEC, MAP, TEXT = pa.decimal128, pa.map_, pa.string()
UUID = "00000000-0000-0000-0000-000000000000"


TINY_BOOL = pa.ExtensionArray.from_storage(pa.bool8(), column([1, None], pa.int8()))
NOWHERE = pa.timestamp("us", "Nowhere/Land")
S_UTC = S.replace(tzinfo=dt.UTC)
CONVERTED: dict[str, tuple[pa.Array, pa.DataType, list[Any]]] = {
    "nanoseconds": (column([S, None], NS), US, [S, None]),
    "in a list": (column([[S], None], pa.list_(NS)), pa.list_(US), [[S], None]),
    "in a struct": (
        column([{"a": S}, None], pa.struct({"a": NS})),
        pa.struct({"a": US}), [{"a": S}, None],
    ),
    "in a map": (column([[("k", S)], None], MAP(TEXT, NS)), MAP(TEXT, US), [[("k", S)], None]),
    "map key": (column([[(S, 1)], None], MAP(NS, pa.int8())), MAP(US, pa.int8()), [[(S, 1)], None]),
    "category": (column([S, None], NS).dictionary_encode(), US, [S, None]),
    "time": (column([1001, None], pa.time64("ns")), TEXT, ["00:00:00.000001001", None]),
    "half": (column([0.5, None], pa.float16()), pa.float32(), [0.5, None]),
    "decimal256": (
        column([Decimal("1.5"), None], pa.decimal256(20, 1)),
        DEC(20, 1), [Decimal("1.5"), None],
    ),
    "long decimal": (column([Decimal("1.5"), None], pa.decimal256(60, 1)), TEXT, ["1.5", None]),
    "uuid": (column([b"\0" * 16, None], pa.uuid()), TEXT, [UUID, None]),
    "json": (column(["{}", None], pa.json_()), TEXT, ["{}", None]),
    "tiny bool": (TINY_BOOL, pa.int8(), [1, None]),
    "unknown zone": (column([S, None], NOWHERE), UTC, [S_UTC, None]),
}  # fmt: skip


@pytest.mark.parametrize("name", CONVERTED)
def test_types_that_a_reader_lacks_are_converted(both: Taken, name: str) -> None:
    """The value is the same, in a type that polars, DuckDB, pandas, pyarrow and Spark read."""
    given, kind, values = CONVERTED[name]
    scored = both(given)

    assert scored.type == kind
    assert scored.to_pylist() == values


def test_the_log_names_converted_columns(write: Write) -> None:
    """One line lists the columns that have another type in the predictions."""
    corpus = write({"text": ["aid"], "at": column([S], NS), "n": [1]})

    assert planned(corpus).notes == (
        "columns written as other types: 'at' (timestamp[ns] as timestamp[us])",
    )


@pytest.mark.parametrize("int96", [False, True], ids=["ns", "INT96"])
@pytest.mark.parametrize("nested", [False, True])
def test_digits_below_a_microsecond_are_refused(write: Write, int96: bool, nested: bool) -> None:
    """Spark cannot read them, and truncating them would lose data; the message has the row."""
    times = column([1_000, None, 2_001], NS)
    values = column([[time] if time.is_valid else None for time in times], pa.list_(NS))
    columns = {"text": ["aid"] * 3, "at": values if nested else times}
    corpus = write(columns, use_deprecated_int96_timestamps=int96)

    with pytest.raises(CorpusError, match=r"row 2: column 'at' .* digits below a microsecond"):
        planned(corpus)


def test_extreme_int96_dates_are_preserved(write: Write) -> None:
    """Dates that mean "never", at both ends of the range, as values and in lists."""
    far = [*map(dt.datetime.fromisoformat, ("9999-12-31", "0001-01-01")), None]
    columns = {"text": ["aid"] * 3, "at": column(far, US), "l": column([far] * 3, pa.list_(US))}
    scored = kept(write(columns, use_deprecated_int96_timestamps=True))

    assert scored.column("at").to_pylist() == far
    assert scored.column("l").to_pylist() == [far] * 3


def test_nan_and_negative_zero_are_preserved(both: Taken) -> None:
    """NaN is not null, and -0.0 is not 0.0, even with integers in another file."""
    odd = [float("nan"), -0.0, None]
    scored = both(column([7], pa.int64()), column(odd, pa.float64())).to_pylist()

    assert [struct.pack("d", value) for value in scored[:3]] == [
        struct.pack("d", value) for value in (7.0, float("nan"), -0.0)
    ]
    assert scored[3] is None


def test_ids_without_a_common_type_are_reported_with_row_and_value(write: Write) -> None:
    """Ids above 2**53 and fractions: the message has file, row, value and a hint."""
    first = write({"text": ["aid"] * 2, "id": [1, BIG]}, "1.parquet")
    second = write({"text": ["aid"], "id": [0.5]}, "2.parquet")

    with pytest.raises(
        CorpusError, match=f"{first}, row 1: column 'id' is int64, and {BIG} is"
    ) as e:
        planned(first, second)
    assert "pandas: Int64" in str(e.value)


def test_a_map_with_a_duplicate_key_is_refused(write: Write) -> None:
    """DuckDB cannot read it, and Spark drops one of the two values; also in nested types."""
    kind = pa.map_(pa.string(), pa.int64())
    once, twice = [("a", 1)], [("a", 1), ("a", 2)]
    nested = pa.array([[once, None], [once, twice]], pa.list_(kind))

    for maps in (column([once, twice], kind), nested):
        with pytest.raises(CorpusError, match=r"row 1: column 'm' .* duplicate key in one map"):
            planned(write({"text": ["aid"] * 2, "m": maps}))


def test_reading_values_can_be_stopped(write: Write) -> None:
    """A stop during planning ends a scan of values."""
    corpus = write({"text": ["aid"], "at": column([S], NS)})

    def stop() -> None:
        raise StoppedError("stopped")

    with pytest.raises(StoppedError):
        make_plan(options(corpus), RunTasks({"narrative": KIND}, {}), SPEC, stop)


@pytest.mark.parametrize("name", EVERY_TYPE)
def test_a_slice_is_converted_like_the_whole_column(name: str) -> None:
    """The offset of a batch does not matter, for nested types and nulls, too."""
    column = pa.concat_arrays([EVERY_TYPE[name]] * 3)
    target = typed(readable_type(column.type))
    whole = convert(column, target)

    whole.validate(full=True)
    for first in range(9):
        part = convert(column.slice(first, 4), target)
        part.validate(full=True)
        assert part.equals(whole.slice(first, 4))


def test_int96_columns_may_have_dots_in_their_names(write: Write) -> None:
    """A dot separates struct fields in a column path, and may be part of a name."""
    at = column([S], US)
    columns = {"text": ["aid"], "a.b": at, "a": pa.array([{"c.d": S}], pa.struct({"c.d": US}))}
    scored = kept(write(columns, use_deprecated_int96_timestamps=True))

    assert scored.to_pylist() == [{"a.b": S, "a": {"c.d": S}}]
