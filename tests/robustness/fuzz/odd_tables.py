"""Arrow tables that hardly anyone would score on purpose: odd types, odd names, odd values."""

from __future__ import annotations

import datetime as dt
import decimal
from collections.abc import Callable
from random import Random

import pyarrow as pa

Make = Callable[[int, Random], pa.Array]

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

PIECES = (
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

BROKEN = (b"\xff", b"\xed\xa0\x80", b"\xc0\x80", b"abc\x80", b"\xf5\x80\x80\x80", b"\xe2\x82")
"""Not UTF-8: lone bytes, an encoded surrogate, an overlong zero, beyond Unicode, cut short."""


def text_values(rows: int, chance: Random) -> list[bytes | None]:
    """Null, blank, ordinary, hostile and huge texts, and what is no text at all."""
    return [_text_value(chance) for _ in range(rows)]


def _text_value(chance: Random) -> bytes | None:
    how = chance.randrange(24)
    if how == 0:
        return None
    if how == 1:
        return chance.choice((b"", b" ", b"\n\t", "\u3000\u2003".encode()))
    if how == 2:
        return chance.choice(BROKEN)
    if how == 3:
        return (chance.choice(PIECES) * chance.choice((10, 10_000))).encode()[:2_000_000]
    if how == 4:
        return "".join(chr(chance.randrange(1, 0xD800)) for _ in range(200)).encode()
    return "".join(chance.choice(PIECES) for _ in range(chance.randrange(1, 12))).encode()


def text_array(values: list[bytes | None], kind: str) -> pa.Array:
    """Bytes as a string type, without a look at whether they are UTF-8."""
    raw = pa.array(values, pa.binary())
    if kind.startswith("dictionary"):
        coded = raw.dictionary_encode()
        words = coded.dictionary if kind.endswith("binary") else coded.dictionary.view(pa.string())
        return pa.DictionaryArray.from_arrays(coded.indices, words)
    stored, shown = _TEXT_TYPES[kind]
    return raw.cast(stored).view(shown)


_TEXT_TYPES = {
    "string": (pa.binary(), pa.string()),
    "large_string": (pa.large_binary(), pa.large_string()),
    "string_view": (pa.binary_view(), pa.string_view()),
    "binary": (pa.binary(), pa.binary()),
    "large_binary": (pa.large_binary(), pa.large_binary()),
}
TEXT_KINDS = (*_TEXT_TYPES, "dictionary of text", "dictionary of binary")


def texts(rows: int, chance: Random) -> pa.Array:
    """Text of any kind, with any value."""
    return text_array(text_values(rows, chance), chance.choice(TEXT_KINDS))


def _of(kind: pa.DataType, *values: object) -> Make:
    def make(rows: int, chance: Random) -> pa.Array:
        return pa.array([chance.choice((None, *values)) for _ in range(rows)], kind)

    return make


def _list_of(inner: Make, wrap: type[pa.ListArray] | type[pa.LargeListArray]) -> Make:
    def make(rows: int, chance: Random) -> pa.Array:
        values = inner(rows * 2, chance)
        ends = sorted(chance.randrange(rows * 2 + 1) for _ in range(rows))
        offsets: list[int | None] = [0, *ends]
        if rows and chance.random() < 0.5:
            offsets[chance.randrange(rows)] = None
        return wrap.from_arrays(
            pa.array(offsets, pa.int64() if wrap is pa.LargeListArray else pa.int32()), values
        )

    return make


def _struct(rows: int, chance: Random) -> pa.Array:
    names = chance.sample(NAMES, 2)
    return pa.StructArray.from_arrays([pa.array(range(rows)), pa.nulls(rows, pa.string())], names)


def _fixed_lists(rows: int, _: Random) -> pa.Array:
    return pa.array([["a", None]] * rows, pa.list_(pa.string(), 2))


def _deep(rows: int, chance: Random) -> pa.Array:
    kind = pa.int8()
    for level in range(chance.choice((3, 30, 120))):
        kind = pa.list_(kind) if level % 2 else pa.struct([("f", kind)])
    return pa.nulls(rows, kind)


def _names(*names: str) -> Make:
    return _of(pa.string(), *names)


SCALARS: tuple[Make, ...] = (
    lambda rows, _: pa.nulls(rows),
    _of(pa.bool_(), True, False),
    _of(pa.int8(), -128, 0, 127),
    _of(pa.int32(), -1, 0, 5, 2**31 - 1),
    _of(pa.int64(), -(2**63), -1, 0, 7, 2**63 - 1),
    _of(pa.uint64(), 0, 3, 2**64 - 1),
    _of(pa.float16(), 0.0, 1.5),
    _of(pa.float32(), 0.0, float("nan"), float("-inf")),
    _of(pa.float64(), 3.0, 5e-324, float("nan"), float("inf")),
    _of(pa.decimal128(38, 2), decimal.Decimal("1.50"), decimal.Decimal(-(10**35))),
    _of(pa.decimal256(70, 0), decimal.Decimal(10**60)),
    _of(pa.date32(), dt.date(1, 1, 1), -(2**31), 2**31 - 1),
    _of(pa.timestamp("s"), -(2**40), 2**55),
    _of(pa.timestamp("ns", "Europe/Berlin"), -(2**63) + 1, 2**63 - 1),
    _of(pa.timestamp("ms", "Nowhere/Land"), 0, 10**15),
    _of(pa.timestamp("us", "+99:99"), 0, 10**15),
    _of(pa.time64("ns"), 0, 86_399_999_999_999),
    _of(pa.duration("us"), -1, 2**62),
    _of(pa.binary(4), b"abcd", b"\xff\xfe\xfd\xfc"),
    _of(pa.month_day_nano_interval(), pa.MonthDayNano([1, 2, 3])),
)

ARRAYS: tuple[Make, ...] = (
    *SCALARS,
    texts,
    texts,
    _names(*LABELS),
    _list_of(_names(*LABELS), pa.ListArray),
    _list_of(_names("Other"), pa.ListArray),
    _list_of(texts, pa.ListArray),
    _list_of(texts, pa.LargeListArray),
    lambda rows, _: pa.array([[1]] * rows, pa.list_view(pa.int8())),
    _list_of(_list_of(_names("Other"), pa.ListArray), pa.ListArray),
    _list_of(_of(pa.int64(), 1), pa.ListArray),
    _struct,
    _fixed_lists,
    _deep,
    lambda rows, _: pa.array([[("k", 1)]] * rows, pa.map_(pa.string(), pa.int32())),
    lambda rows, _: pa.array([{}] * rows, pa.struct([])),
    lambda rows, _: (
        pa.array(["a"] * rows).cast(pa.json_()) if hasattr(pa, "json_") else pa.nulls(rows)
    ),
    lambda rows, _: pa.RunEndEncodedArray.from_arrays([rows], ["a"]) if rows else pa.nulls(rows),
)


def with_odd_columns(table: pa.Table, chance: Random) -> pa.Table:
    """Change types, names, order, doubles and metadata of the columns of a table."""
    names, columns = list(table.column_names), list(table.columns)
    for _ in range(chance.choice((1, 1, 2, 3))):
        at = chance.randrange(len(names)) if names else 0
        how = chance.randrange(8)
        if how in (0, 1, 2) and names:
            columns[at] = chance.choice(ARRAYS)(table.num_rows, chance)
        elif how == 3 and names:
            names[at] = chance.choice(NAMES)
        elif how == 4 and names:
            del names[at], columns[at]
        elif how == 5 and names:
            names.insert(at, chance.choice((names[at], names[at].upper())))
            columns.insert(at, columns[at])
        elif how == 6:
            names.append(chance.choice(NAMES))
            columns.append(chance.choice(ARRAYS)(table.num_rows, chance))
        else:
            columns[at : at + 1] = [chance.choice(ARRAYS)(table.num_rows, chance)] * bool(names)
    fields = [
        pa.field(name, column.type, metadata=chance.choice((None, None, {"k": "v" * 5000})))
        for name, column in zip(names, columns, strict=True)
    ]
    return pa.Table.from_arrays(columns, schema=pa.schema(fields, metadata=_odd_metadata(chance)))


def _odd_metadata(chance: Random) -> dict[bytes, bytes] | None:
    return chance.choice(
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


def with_odd_values(table: pa.Table, chance: Random) -> pa.Table:
    """Change what stands in the columns that a run reads; their types stay usable."""
    rows = table.num_rows
    ends = (-(2**63), -1, 0, 1, 3, 10, 10**6, 2**63 - 1, None)
    replaced: dict[str, pa.Array] = {"text": texts(rows, chance)}
    if chance.random() < 0.5:
        replaced["title"] = texts(rows, chance)
    if chance.random() < 0.5:
        replaced["domain"] = chance.choice((texts, *SCALARS))(rows, chance)
    if chance.random() < 0.3:
        replaced["article_id"] = chance.choice(ARRAYS)(rows, chance)
    if chance.random() < 0.5:
        for name in ("start", "end"):
            replaced[name] = pa.array([chance.choice(ends) for _ in range(rows)], pa.int64())
    if chance.random() < 0.3:
        replaced["end"] = _of(pa.uint64(), 0, 5, 2**64 - 1)(rows, chance)
    if chance.random() < 0.3:
        replaced["entity"] = texts(rows, chance)
    if chance.random() < 0.5:
        gold = chance.choice((texts, _names("Other"), _list_of(texts, pa.ListArray)))
        replaced["narratives"] = gold(rows, chance)
    columns = [replaced.get(name, table.column(name)) for name in table.column_names]
    return pa.table(columns, names=table.column_names)
