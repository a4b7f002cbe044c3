"""Pass-through columns: values reach the predictions, or the plan refuses the corpus."""

from __future__ import annotations

import datetime as dt
import struct
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batch.corpus.convert import convert
from batch.corpus.output_types import readable_type, typed
from batch.corpus.plan import Plan, make_plan
from batch.corpus.reader import ChunkReader
from batch.options import RunOptions
from batch.tasks import RunTasks
from schemas.errors import CorpusError, StoppedError
from schemas.text import TextSpec
from tests.batch.every_type import EVERY_TYPE

Write = Callable[..., Path]
Taken = Callable[..., pa.Table]

SPEC = TextSpec()


def planned(*corpus: Path, spec: TextSpec = SPEC, gold: str | None = None, **given: Any) -> Plan:
    """The plan of a corpus for one task."""
    tasks = RunTasks(("narrative",), {} if gold is None else {"narrative": gold})
    return make_plan(options(*corpus, **given), tasks, spec)


def options(*corpus: Path, **given: Any) -> RunOptions:
    return RunOptions(tuple(map(str, corpus)), "narrative", Path("b"), Path("o"), **given)


def kept(*corpus: Path, **given: Any) -> pa.Table:
    """The pass-through columns of all rows, as predictions have them."""
    plan = planned(*corpus, **given)
    reader = ChunkReader(plan, options(*corpus, **given), SPEC, max_tokens=64)
    return pa.concat_tables([reader.read(chunk).kept for chunk in plan.chunks])


@pytest.fixture
def both(write: Write) -> Taken:
    """Column `c` of predictions for one file a column, each written with another type."""

    def both(*columns: pa.Array) -> pa.ChunkedArray:
        files = [
            write({"text": ["aid"] * len(column), "c": column}, f"{number}.parquet")
            for number, column in enumerate(columns)
        ]
        return kept(*files).column("c")

    return both


def column(values: list[Any], kind: pa.DataType) -> pa.Array:
    return pa.array(values, kind)


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
def test_two_types_of_a_column_give_one_that_keeps_the_values(
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
    """A value without what types add to it: bytes for text, an instant for a date or time."""
    if isinstance(value, bytes):
        return value.decode(errors="surrogateescape")
    if isinstance(value, dt.datetime):
        return value.replace(tzinfo=dt.UTC) if value.tzinfo is None else value.astimezone(dt.UTC)
    if isinstance(value, dt.date):
        return dt.datetime(value.year, value.month, value.day, tzinfo=dt.UTC)
    return value


def test_structs_get_the_fields_of_all_files(both: Taken) -> None:
    """A field that a file lacks is null there, in structs within lists too."""
    first = pa.array([[{"a": 1, "b": "x"}], None])
    second = pa.array([[{"c": 1.5, "a": 2}, None]])

    assert both(first, second).to_pylist() == [
        [{"a": 1, "b": "x", "c": None}],
        None,
        [{"a": 2, "b": None, "c": 1.5}, None],
    ]


def test_a_category_and_a_string_are_one_column(both: Taken) -> None:
    """Dictionaries of any index type, ordered or not, beside plain strings, nested too."""
    small = pa.DictionaryArray.from_arrays(pa.array([0, None], pa.int8()), ["a", "b"], ordered=True)
    scored = both(small, pa.array(["b", None]).dictionary_encode(), pa.array(["c"]))
    nested = pa.ListArray.from_arrays([0, 1], pa.array(["a"]).dictionary_encode())

    assert scored.type == pa.string()
    assert scored.to_pylist() == ["a", None, "b", None, "c"]
    assert both(nested, pa.array([["b"]])).to_pylist() == [["a"], ["b"]]


def test_many_categories_do_not_overflow_a_small_index(write: Write) -> None:
    """Parts of a file may have dictionaries of their own, together larger than an int8 counts."""
    pieces = [pa.array([f"{part}-{n}" for n in range(100)]).dictionary_encode() for part in "abc"]
    narrow = pa.chunked_array([p.cast(pa.dictionary(pa.int8(), pa.string())) for p in pieces])
    corpus = write({"text": ["aid"] * 300, "c": narrow}, row_group_size=100)

    assert kept(corpus).column("c").to_pylist() == narrow.to_pylist()


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


def test_the_log_names_what_is_converted(write: Write) -> None:
    """One line for the columns whose type in the predictions is another."""
    corpus = write({"text": ["aid"], "at": column([S], NS), "n": [1]})

    assert planned(corpus).notes == (
        "columns written as other types: 'at' (timestamp[ns] as timestamp[us])",
    )


@pytest.mark.parametrize("int96", [False, True], ids=["ns", "INT96"])
@pytest.mark.parametrize("nested", [False, True])
def test_digits_below_a_microsecond_are_refused(write: Write, int96: bool, nested: bool) -> None:
    """Spark cannot read them and cutting them off would be a loss; the message has the row."""
    times = column([1_000, None, 2_001], NS)
    values = column([[time] if time.is_valid else None for time in times], pa.list_(NS))
    columns = {"text": ["aid"] * 3, "at": values if nested else times}
    corpus = write(columns, use_deprecated_int96_timestamps=int96)

    with pytest.raises(CorpusError, match=r"row 2: column 'at' .* digits below a microsecond"):
        planned(corpus)


def test_far_dates_of_int96_come_through(write: Write) -> None:
    """What means never, at both ends, alone and in a list."""
    far = [*map(dt.datetime.fromisoformat, ("9999-12-31", "0001-01-01")), None]
    columns = {"text": ["aid"] * 3, "at": column(far, US), "l": column([far] * 3, pa.list_(US))}
    scored = kept(write(columns, use_deprecated_int96_timestamps=True))

    assert scored.column("at").to_pylist() == far
    assert scored.column("l").to_pylist() == [far] * 3


def test_nan_and_negative_zero_stay_what_they_are(both: Taken) -> None:
    """NaN is not null, and -0.0 not 0.0, with integers beside them in another file."""
    odd = [float("nan"), -0.0, None]
    scored = both(column([7], pa.int64()), column(odd, pa.float64())).to_pylist()

    assert [struct.pack("d", value) for value in scored[:3]] == [
        struct.pack("d", value) for value in (7.0, float("nan"), -0.0)
    ]
    assert scored[3] is None


def test_ids_that_no_type_holds_are_told_with_row_and_value(write: Write) -> None:
    """Ids above 2**53 beside fractions: the file, the row, the value and what to do."""
    first = write({"text": ["aid"] * 2, "id": [1, BIG]}, "1.parquet")
    second = write({"text": ["aid"], "id": [0.5]}, "2.parquet")

    with pytest.raises(
        CorpusError, match=f"{first}, row 1: column 'id' is int64, and {BIG} is"
    ) as e:
        planned(first, second)
    assert "pandas: Int64" in str(e.value)


def test_a_map_with_a_key_twice_is_refused(write: Write) -> None:
    """DuckDB cannot read such maps, and Spark keeps one of the two values; nested ones too."""
    kind = pa.map_(pa.string(), pa.int64())
    once, twice = [("a", 1)], [("a", 1), ("a", 2)]
    nested = pa.array([[once, None], [once, twice]], pa.list_(kind))

    for maps in (column([once, twice], kind), nested):
        with pytest.raises(CorpusError, match=r"row 1: column 'm' .* key twice in one map"):
            planned(write({"text": ["aid"] * 2, "m": maps}))


def test_reading_values_can_be_stopped(write: Write) -> None:
    """Planning a corpus whose values must be read ends when it is asked to."""
    corpus = write({"text": ["aid"], "at": column([S], NS)})

    def stop() -> None:
        raise StoppedError("stopped")

    with pytest.raises(StoppedError):
        make_plan(options(corpus), RunTasks(("narrative",), {}), SPEC, stop)


@pytest.mark.parametrize("name", EVERY_TYPE)
def test_a_slice_of_a_column_is_converted_like_the_whole(name: str) -> None:
    """Where a batch begins does not matter, nested or not, nulls included."""
    column = pa.concat_arrays([EVERY_TYPE[name]] * 3)
    target = typed(readable_type(column.type))
    whole = convert(column, target)

    whole.validate(full=True)
    for first in range(9):
        part = convert(column.slice(first, 4), target)
        part.validate(full=True)
        assert part.equals(whole.slice(first, 4))


def test_int96_columns_may_have_dots_in_their_names(write: Write) -> None:
    """A dot separates the fields of a struct in a path, and may be in any name."""
    at = column([S], US)
    columns = {"text": ["aid"], "a.b": at, "a": pa.array([{"c.d": S}], pa.struct({"c.d": US}))}
    scored = kept(write(columns, use_deprecated_int96_timestamps=True))

    assert scored.to_pylist() == [{"a.b": S, "a": {"c.d": S}}]


@pytest.mark.parametrize("name", ["Labels", "STATUS", "Source_File", "status"])
def test_a_name_of_ours_in_other_case_is_refused(write: Write, name: str) -> None:
    """Spark and DuckDB do not look at case."""
    with pytest.raises(CorpusError, match=f"predictions add themselves: '{name}'") as error:
        planned(write({"text": ["aid"], name: ["x"]}))
    assert f"rename them, for example '{name}' to 'input_{name}'" in str(error.value)


def test_names_that_differ_in_case_only_are_refused(write: Write, tmp_path: Path) -> None:
    """In one file, in two files, as a hive key beside a column, and as fields of a struct."""
    pair = write({"text": ["aid"], "domain": ["a"], "Domain": ["b"]}, "pair.parquet")
    one = write({"text": ["aid"], "Domain": ["a"]}, "one/a.parquet")
    other = write({"text": ["aid"], "domain": ["a"]}, "one/b.parquet")
    key = write({"text": ["aid"], "domain": ["a"]}, "Domain=x/a.parquet")
    fields = write({"text": ["aid"], "s": [[{"a": 1, "A": 2}]]}, "fields.parquet")

    for corpus, where in ((pair, pair), (one.parent, f"{one}, {other}"), (key, key)):
        with pytest.raises(CorpusError, match=f"^{where}: .*differ in case only"):
            planned(corpus)
    with pytest.raises(CorpusError, match="column 's' has the fields 'a' and 'A'"):
        planned(fields)


def test_a_text_column_that_is_dropped_may_have_any_name(write: Write) -> None:
    """`Status` as the text is not in the predictions, and takes nobody's name there."""
    corpus = write({"Status": ["aid"], "n": [1]})

    assert planned(corpus, text_column="Status").kept.names == ["n"]
    with pytest.raises(CorpusError, match="predictions add themselves"):
        planned(corpus, text_column="Status", keep_text=True)


def test_gold_called_labels_in_other_case_is_renamed(write: Write) -> None:
    """`Labels` becomes `gold_Labels`, as `labels` becomes `gold_labels`."""
    corpus = write({"text": ["aid"], "Labels": [["Other"]]})

    assert planned(corpus, gold="Labels").kept.names == ["gold_Labels"]


def test_columns_that_nobody_writes_may_be_anything(write: Write) -> None:
    """Calibration reads text and gold alone; no other column can refuse its corpus."""
    columns = {"at": column([1], NS), "status": ["x"], "Text": ["y"]}
    tasks = RunTasks(("narrative",), {})
    corpus = write({"text": ["aid"], **columns})
    plan = make_plan(options(corpus), tasks, SPEC, keep_columns=False)

    assert plan.rows == 1
    assert plan.kept.names == []


def test_text_that_is_not_utf8_in_a_kept_column_costs_its_row(write: Write) -> None:
    """polars could not read the part; nested strings count, bytes may hold anything."""
    bad = pa.array([b"a", b"\xff", b"c"])
    nested = pa.ListArray.from_arrays(
        [0, 1, 2, 3], pa.array([b"a", b"b", b"\xff"]).view(pa.string())
    )
    views = pa.array([b"a", b"\xff", b"c"], pa.binary_view()).view(pa.string_view())
    columns = {"author": bad.view(pa.string()), "views": views, "tags": nested, "raw": bad}
    corpus = write({"text": ["aid"] * 3, **columns})
    plan = planned(corpus)
    rows = ChunkReader(plan, options(corpus), SPEC, max_tokens=64).read(plan.chunks[0])

    assert [text is None for text in rows.texts] == [False, True, True]
    assert rows.reasons[0] is None
    assert "column 'author' is not UTF-8" in str(rows.reasons[1]) or "'views'" in str(
        rows.reasons[1]
    )
    assert rows.reasons[2] == "column 'tags' is not UTF-8"


def test_a_title_that_is_not_read_may_be_of_any_type(write: Write) -> None:
    """A task without titles takes no notice of them; one with titles says what is wrong."""
    corpus = write({"text": ["aid"], "title": [1]})

    assert planned(corpus, spec=TextSpec(title=False)).kept.names == ["title"]
    with pytest.raises(CorpusError, match="column 'title' is int64, not text"):
        planned(corpus)


def test_text_and_title_without_a_value_may_have_any_type(write: Write) -> None:
    """pandas makes doubles of a column that is missing in every row of a day."""
    empty = column([None, None], pa.float64())
    corpus = write({"text": empty, "title": empty})

    assert planned(corpus).rows == 2


GOLD_TYPES = [
    pa.list_(pa.string()),
    pa.large_list(pa.large_string()),
    pa.list_view(pa.string()),
    pa.list_(pa.string_view()),
    pa.list_(pa.string(), 1),
    pa.list_(pa.dictionary(pa.int8(), pa.string())),
]


@pytest.mark.parametrize("kind", GOLD_TYPES, ids=str)
def test_gold_of_every_list_type_is_read(write: Write, kind: pa.DataType) -> None:
    """However the labels are stored, they are the same labels."""
    if "dictionary" in str(kind):
        gold: Any = pa.ListArray.from_arrays([0, 1, 2], pa.array(["a", "b"]).dictionary_encode())
    else:
        gold = pa.array([["a"], ["b"]], kind)
    corpus = write({"text": ["aid"] * 2, "gold": gold})

    assert read_gold(corpus) == [["a"], ["b"]]


def read_gold(*corpus: Path) -> list[list[str] | None]:
    plan = planned(*corpus, gold="gold")
    reader = ChunkReader(plan, options(*corpus), SPEC, max_tokens=64)
    return [names for chunk in plan.chunks for names in reader.read(chunk).gold["narrative"]]


def test_a_day_whose_gold_has_no_type_does_not_refuse_the_others(write: Write) -> None:
    """Empty lists, nulls and all-missing doubles, beside days with labels."""
    columns = [[["a"], []], column([[], None], pa.list_(pa.null())), pa.nulls(2)]
    columns.append(column([None, None], pa.float64()))
    days = [
        write({"text": ["aid"] * 2, "gold": gold}, f"{day}.parquet")
        for day, gold in enumerate(columns)
    ]

    assert read_gold(*days) == [["a"], [], [], *[None] * 5]


OFFSETS: list[tuple[Any, str | None]] = [
    ([0.0, 0.0], None),
    ([Decimal("0.0")] * 2, None),
    (["0", " 0.0"], None),
    ([None, 0.0], "missing"),
    ([float("nan"), 0.0], "'nan', not a whole number"),
    ([0.5, 0.0], "'0.5', not a whole number"),
    ([float("inf"), 0.0], "'inf', not a whole number"),
    ([1e300, 0.0], "outside the text"),
    (["zero", "0"], "'zero', not a whole number"),
]


@pytest.mark.parametrize(("starts", "reason"), OFFSETS, ids=str)
def test_an_offset_that_is_no_whole_number_costs_its_row(
    write: Write, starts: Any, reason: str | None
) -> None:
    """Doubles, decimals and digits are offsets where they are whole; the next row is scored."""
    spec = TextSpec(title=False, entity_markers=True)
    end = [2e300 if starts[0] == 1e300 else 4.0, 4.0]
    corpus = write({"text": ["Hero saves"] * 2, "start": starts, "end": column(end, pa.float64())})
    plan = planned(corpus, spec=spec)
    rows = ChunkReader(plan, options(corpus), spec, max_tokens=64).read(plan.chunks[0])

    assert rows.reasons[1] is None
    if reason is None:
        assert rows.reasons[0] is None
    else:
        assert reason in str(rows.reasons[0])


def test_a_blank_text_is_empty_whatever_its_offsets(write: Write) -> None:
    """There is nothing to mark in it."""
    spec = TextSpec(title=False, entity_markers=True)
    corpus = write({"text": [" "], "start": [0.5], "end": [1.5]})
    plan = planned(corpus, spec=spec)

    assert ChunkReader(plan, options(corpus), spec, max_tokens=64).read(plan.chunks[0]).reasons == [
        None
    ]


def test_twenty_thousand_columns_take_seconds(write: Write) -> None:
    """Time grows with the columns, not with their square."""
    values = pa.array([1, None])
    wide = pa.table({"text": ["aid", "war"], **{f"column {n}": values for n in range(20_000)}})
    corpus = write(wide)
    started = time.process_time()
    plan = planned(corpus)

    assert len(plan.kept) == 20_000
    assert time.process_time() - started < 15


def test_names_in_messages_are_escaped(write: Write) -> None:
    """A column or a file cannot forge a line of the log."""
    corpus = write({"text": [1], "n": [1]}, "odd\x1b[2J.parquet")

    with pytest.raises(CorpusError) as error:
        planned(corpus)
    assert "\x1b" not in str(error.value)
    assert pq.read_schema(corpus).names == ["text", "n"]
