"""Random Arrow tables with odd types, names and values."""

from __future__ import annotations

import datetime as dt
import decimal
from collections.abc import Callable
from random import Random

import pyarrow as pa

ArrayMaker = Callable[[int, Random], pa.Array]

LABELS = ("Other", "economy", "Foreign meddling", "", "\0", "other", "x" * 300)

NAMES = (
    "",
    " ",
    "\0",
    "text",
    "Text",
    "title",
    "text\n",
    "labels",
    "gold_labels",
    "probabilities",
    "tokens",
    "status",
    "model",
    "text_hash",
    "source_file",
    "source_row",
    "narratives",
    "roles",
    "entity",
    "start",
    "domain",
    "article_id",
    "published_at",
    ".",
    "a.b",
    "text.list.element",
    "список",
    "\u202etxet",
    "n" * 20_000,
    "-",
    "*",
    "{}",
)

TEXT_PIECES = (
    "Aid is wasted by officials. ",
    "Sanctions hurt us. ",
    "Ünïcödé ",
    "新闻",
    "[ENTITY]",
    "[/ENTITY]",
    "[SEP]",
    "[PAD][CLS][MASK]",
    "\0",
    "\x1b[2J",
    "\r\n",
    "\u200b\u200f",
    "a\u0301" * 50,
    "👩‍👩‍👧",
    "\ufeff",
    "\ufffe",
    " " * 500,
    "x" * 3000,
)

INVALID_UTF8 = (b"\xff", b"\xed\xa0\x80", b"\xc0\x80", b"abc\x80", b"\xf5\x80\x80\x80", b"\xe2\x82")
"""Lone bytes, an encoded surrogate, an overlong zero, a code beyond Unicode, a cut character."""


def text_values(rows: int, rng: Random) -> list[bytes | None]:
    """Null, blank, ordinary, hostile and huge texts, and invalid UTF-8."""
    return [_text_value(rng) for _ in range(rows)]


def _text_value(rng: Random) -> bytes | None:
    kind = rng.randrange(24)
    if kind == 0:
        return None
    if kind == 1:
        return rng.choice((b"", b" ", b"\n\t", "\u3000\u2003".encode()))
    if kind == 2:
        return rng.choice(INVALID_UTF8)
    if kind == 3:
        return (rng.choice(TEXT_PIECES) * rng.choice((10, 10_000))).encode()[:2_000_000]
    if kind == 4:
        return "".join(chr(rng.randrange(1, 0xD800)) for _ in range(200)).encode()
    return "".join(rng.choice(TEXT_PIECES) for _ in range(rng.randrange(1, 12))).encode()


def text_array(values: list[bytes | None], kind: str) -> pa.Array:
    """Bytes as an array of a string type, without a check that they are UTF-8."""
    raw = pa.array(values, pa.binary())
    if kind.startswith("dictionary"):
        encoded = raw.dictionary_encode()
        dictionary = encoded.dictionary
        if not kind.endswith("binary"):
            dictionary = dictionary.view(pa.string())
        return pa.DictionaryArray.from_arrays(encoded.indices, dictionary)
    binary_type, text_type = _TEXT_TYPES[kind]
    return raw.cast(binary_type).view(text_type)


_TEXT_TYPES = {
    "string": (pa.binary(), pa.string()),
    "large_string": (pa.large_binary(), pa.large_string()),
    "string_view": (pa.binary_view(), pa.string_view()),
    "binary": (pa.binary(), pa.binary()),
    "large_binary": (pa.large_binary(), pa.large_binary()),
}
TEXT_KINDS = (*_TEXT_TYPES, "dictionary of text", "dictionary of binary")


def random_texts(rows: int, rng: Random) -> pa.Array:
    """Texts of a random type with random values."""
    return text_array(text_values(rows, rng), rng.choice(TEXT_KINDS))


def _choices(data_type: pa.DataType, *values: object) -> ArrayMaker:
    def make(rows: int, rng: Random) -> pa.Array:
        return pa.array([rng.choice((None, *values)) for _ in range(rows)], data_type)

    return make


def _lists(inner: ArrayMaker, wrap: type[pa.ListArray] | type[pa.LargeListArray]) -> ArrayMaker:
    def make(rows: int, rng: Random) -> pa.Array:
        values = inner(rows * 2, rng)
        ends = sorted(rng.randrange(rows * 2 + 1) for _ in range(rows))
        offsets: list[int | None] = [0, *ends]
        if rows and rng.random() < 0.5:
            offsets[rng.randrange(rows)] = None
        return wrap.from_arrays(
            pa.array(offsets, pa.int64() if wrap is pa.LargeListArray else pa.int32()), values
        )

    return make


def _structs(rows: int, rng: Random) -> pa.Array:
    names = rng.sample(NAMES, 2)
    return pa.StructArray.from_arrays([pa.array(range(rows)), pa.nulls(rows, pa.string())], names)


def _fixed_lists(rows: int, _: Random) -> pa.Array:
    return pa.array([["a", None]] * rows, pa.list_(pa.string(), 2))


def _deeply_nested(rows: int, rng: Random) -> pa.Array:
    kind = pa.int8()
    for level in range(rng.choice((3, 30, 120))):
        kind = pa.list_(kind) if level % 2 else pa.struct([("f", kind)])
    return pa.nulls(rows, kind)


def _strings(*names: str) -> ArrayMaker:
    return _choices(pa.string(), *names)


SCALARS: tuple[ArrayMaker, ...] = (
    lambda rows, _: pa.nulls(rows),
    _choices(pa.bool_(), True, False),
    _choices(pa.int8(), -128, 0, 127),
    _choices(pa.int32(), -1, 0, 5, 2**31 - 1),
    _choices(pa.int64(), -(2**63), -1, 0, 7, 2**63 - 1),
    _choices(pa.uint64(), 0, 3, 2**64 - 1),
    _choices(pa.float16(), 0.0, 1.5),
    _choices(pa.float32(), 0.0, float("nan"), float("-inf")),
    _choices(pa.float64(), 3.0, 5e-324, float("nan"), float("inf")),
    _choices(pa.decimal128(38, 2), decimal.Decimal("1.50"), decimal.Decimal(-(10**35))),
    _choices(pa.decimal256(70, 0), decimal.Decimal(10**60)),
    _choices(pa.date32(), dt.date(1, 1, 1), -(2**31), 2**31 - 1),
    _choices(pa.timestamp("s"), -(2**40), 2**55),
    _choices(pa.timestamp("ns", "Europe/Berlin"), -(2**63) + 1, 2**63 - 1),
    _choices(pa.timestamp("ms", "Nowhere/Land"), 0, 10**15),
    _choices(pa.timestamp("us", "+99:99"), 0, 10**15),
    _choices(pa.time64("ns"), 0, 86_399_999_999_999),
    _choices(pa.duration("us"), -1, 2**62),
    _choices(pa.binary(4), b"abcd", b"\xff\xfe\xfd\xfc"),
    _choices(pa.month_day_nano_interval(), pa.MonthDayNano([1, 2, 3])),
)

ARRAYS: tuple[ArrayMaker, ...] = (
    *SCALARS,
    random_texts,
    random_texts,
    _strings(*LABELS),
    _lists(_strings(*LABELS), pa.ListArray),
    _lists(_strings("Other"), pa.ListArray),
    _lists(random_texts, pa.ListArray),
    _lists(random_texts, pa.LargeListArray),
    lambda rows, _: pa.array([[1]] * rows, pa.list_view(pa.int8())),
    _lists(_lists(_strings("Other"), pa.ListArray), pa.ListArray),
    _lists(_choices(pa.int64(), 1), pa.ListArray),
    _structs,
    _fixed_lists,
    _deeply_nested,
    lambda rows, _: pa.array([[("k", 1)]] * rows, pa.map_(pa.string(), pa.int32())),
    lambda rows, _: pa.array([{}] * rows, pa.struct([])),
    lambda rows, _: (
        pa.array(["a"] * rows).cast(pa.json_()) if hasattr(pa, "json_") else pa.nulls(rows)
    ),
    lambda rows, _: pa.RunEndEncodedArray.from_arrays([rows], ["a"]) if rows else pa.nulls(rows),
)


def with_odd_columns(table: pa.Table, rng: Random) -> pa.Table:
    """Change types, names, order and metadata of the columns of a table; add duplicates."""
    names, columns = list(table.column_names), list(table.columns)
    for _ in range(rng.choice((1, 1, 2, 3))):
        index = rng.randrange(len(names)) if names else 0
        mutation = rng.randrange(8)
        if mutation in (0, 1, 2) and names:
            columns[index] = rng.choice(ARRAYS)(table.num_rows, rng)
        elif mutation == 3 and names:
            names[index] = rng.choice(NAMES)
        elif mutation == 4 and names:
            del names[index], columns[index]
        elif mutation == 5 and names:
            names.insert(index, rng.choice((names[index], names[index].upper())))
            columns.insert(index, columns[index])
        elif mutation == 6:
            names.append(rng.choice(NAMES))
            columns.append(rng.choice(ARRAYS)(table.num_rows, rng))
        else:
            columns[index : index + 1] = [rng.choice(ARRAYS)(table.num_rows, rng)] * bool(names)
    fields = [
        pa.field(name, column.type, metadata=rng.choice((None, None, {"k": "v" * 5000})))
        for name, column in zip(names, columns, strict=True)
    ]
    return pa.Table.from_arrays(columns, schema=pa.schema(fields, metadata=_odd_metadata(rng)))


def _odd_metadata(rng: Random) -> dict[bytes, bytes] | None:
    return rng.choice(
        (
            None,
            None,
            None,
            {b"": b""},
            {b"pandas": b"{"},
            {b"ARROW:schema": b"not one"},
            {b"\xff\xfe": b"\x00" * 100},
            {b"big": b"x" * 1_000_000},
        )
    )


def with_odd_values(table: pa.Table, rng: Random) -> pa.Table:
    """Replace values of the columns that a run reads; their types remain valid."""
    rows = table.num_rows
    ends = (-(2**63), -1, 0, 1, 3, 10, 10**6, 2**63 - 1, None)
    replaced: dict[str, pa.Array] = {"text": random_texts(rows, rng)}
    if rng.random() < 0.5:
        replaced["title"] = random_texts(rows, rng)
    if rng.random() < 0.5:
        replaced["domain"] = rng.choice((random_texts, *SCALARS))(rows, rng)
    if rng.random() < 0.3:
        replaced["article_id"] = rng.choice(ARRAYS)(rows, rng)
    if rng.random() < 0.5:
        for name in ("start", "end"):
            replaced[name] = pa.array([rng.choice(ends) for _ in range(rows)], pa.int64())
    if rng.random() < 0.3:
        replaced["end"] = _choices(pa.uint64(), 0, 5, 2**64 - 1)(rows, rng)
    if rng.random() < 0.3:
        replaced["entity"] = random_texts(rows, rng)
    if rng.random() < 0.5:
        gold = rng.choice((random_texts, _strings("Other"), _lists(random_texts, pa.ListArray)))
        replaced["narratives"] = gold(rows, rng)
    columns = [replaced.get(name, table.column(name)) for name in table.column_names]
    return pa.table(columns, names=table.column_names)
