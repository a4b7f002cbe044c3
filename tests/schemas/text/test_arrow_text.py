"""Which Arrow columns hold text or labels, and what their values are."""

from __future__ import annotations

import pyarrow as pa
import pytest

from schemas.text.arrow_text import BadText, decode_text, holds_labels, label_lists

TEXT_TYPES = [
    pa.string(),
    pa.large_string(),
    pa.string_view(),
    pa.binary(),
    pa.large_binary(),
    pa.binary_view(),
    pa.dictionary(pa.int32(), pa.string()),
    pa.dictionary(pa.int8(), pa.large_string()),
]
LIST_TYPES = [pa.list_, pa.large_list, pa.list_view, pa.large_list_view]


def column(values: list[object], kind: pa.DataType) -> pa.Array:
    """A column of a type that Arrow cannot build all of from Python values."""
    if pa.types.is_dictionary(kind):
        return pa.array(values, kind.value_type).dictionary_encode().cast(kind)
    return pa.array(values, kind)


@pytest.mark.parametrize("kind", TEXT_TYPES, ids=str)
def test_text_of_every_type_is_read(kind: pa.DataType) -> None:
    """Text is the same whatever Arrow type it is stored in, slices included."""
    array = column(["économie", None, "aid", ""], kind)

    assert decode_text(array) == ["économie", None, "aid", ""]
    assert decode_text(array.slice(2)) == ["aid", ""]


@pytest.mark.parametrize("kind", TEXT_TYPES, ids=str)
def test_single_labels_of_every_type_are_read(kind: pa.DataType) -> None:
    """A null and a blank string are rows without labels, every other string is one label."""
    array = column(["aid", None, "", " "], kind)

    assert holds_labels(kind)
    assert label_lists(array) == [["aid"], None, None, None]


@pytest.mark.parametrize("values", TEXT_TYPES[:6], ids=str)
@pytest.mark.parametrize("make_list", LIST_TYPES)
def test_label_lists_of_every_type_are_read(make_list: object, values: pa.DataType) -> None:
    """A null list is a row without labels, an empty one is labelled, nulls inside are ignored."""
    kind = make_list(values)  # type: ignore[operator]
    array = pa.array([["aid", "war"], None, [], ["oil", None], [None]], kind)

    assert holds_labels(kind)
    assert label_lists(array) == [["aid", "war"], None, [], ["oil"], []]
    assert label_lists(array.slice(1, 3)) == [None, [], ["oil"]]


def test_dictionaries_in_lists_are_read() -> None:
    """Categories of polars and pandas are labels."""
    words = pa.array(["aid", "war", "aid"]).dictionary_encode()
    array = pa.ListArray.from_arrays(pa.array([0, 2, 2, 3], pa.int32()), words)

    assert holds_labels(array.type)
    assert label_lists(array) == [["aid", "war"], [], ["aid"]]


def test_lists_of_fixed_size_are_read() -> None:
    """As many labels in every row, or null."""
    array = pa.array([["aid", "war"], None, ["oil", None]], pa.list_(pa.string(), 2))

    assert holds_labels(array.type)
    assert label_lists(array) == [["aid", "war"], None, ["oil"]]


def test_columns_without_a_value_have_no_type() -> None:
    """A column of nulls, and one of empty lists, are labels: of no row, and of every row none."""
    nulls, empty = pa.nulls(2), pa.array([[], None, [None]], pa.list_(pa.null()))

    assert holds_labels(nulls.type)
    assert label_lists(nulls) == [None, None]
    assert holds_labels(empty.type)
    assert label_lists(empty) == [[], None, []]
    assert decode_text(nulls) == [None, None]


@pytest.mark.parametrize(
    "kind", [pa.int64(), pa.list_(pa.int64()), pa.list_(pa.list_(pa.string())), pa.bool_()], ids=str
)
def test_other_types_hold_no_labels(kind: pa.DataType) -> None:
    """Numbers and nested lists are not labels."""
    assert not holds_labels(kind)


def test_bytes_that_are_not_utf8_are_marked() -> None:
    """A value whose bytes are not UTF-8 is a BadText with the reason; the others are read."""
    binary = pa.array([b"aid", b"a\xff"])
    text = binary.view(pa.string())

    for array in (binary, text):
        values = decode_text(array)

        assert values[0] == "aid"
        assert isinstance(values[1], BadText)
        assert "byte 0xff at position 1" in values[1]
