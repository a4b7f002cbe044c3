"""Canonical batch shapes."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from hypothesis import given, settings
from hypothesis import strategies as st

from batch.scoring.packing import BatchShapes

Ids: TypeAlias = npt.NDArray[np.int32]

PAD = 7
MANY = settings(max_examples=60, deadline=None)
shapes = st.builds(BatchShapes, st.integers(3, 700), st.integers(1, 5000))


@st.composite
def packings(draw: st.DrawFn) -> tuple[BatchShapes, list[Ids]]:
    """Shapes and texts that fit them; every token id but the padding's is above 10."""
    found = draw(shapes)
    lengths = draw(st.lists(st.integers(1, found.max_tokens), max_size=40))
    rng = np.random.default_rng(len(lengths))
    return found, [rng.integers(11, 99, length).astype(np.int32) for length in lengths]


@MANY
@given(shapes, st.data())
def test_every_length_fits_its_bucket(found: BatchShapes, data: st.DataObject) -> None:
    """A batch has room for a text of that length, at least one row, and at most its tokens."""
    length = data.draw(st.integers(1, found.max_tokens))
    shape = found.shape_of(length)

    assert length <= shape.seq <= found.max_tokens
    assert shape.rows >= 1
    assert shape.rows == 1 or shape.rows * shape.seq <= found.tokens_per_batch


@MANY
@given(st.integers(1, 5000), st.integers(65, 4096))
def test_padding_of_a_long_text_is_less_than_an_eighth(tokens: int, length: int) -> None:
    """Above 64 tokens fewer than 12.5 % of a row are padding, in small batches half that."""
    seq = BatchShapes(4096, tokens).shape_of(length).seq

    assert (seq - length) / seq < (0.0625 if tokens <= 1024 and length > 128 else 0.125)


@MANY
@given(st.integers(1, 5000))
def test_a_longer_text_never_gets_a_shorter_bucket(tokens: int) -> None:
    """Bucket lengths ascend, and each has one shape."""
    found = BatchShapes(512, tokens)
    all_shapes = [found.shape_of(length) for length in range(1, 513)]

    assert [shape.seq for shape in all_shapes] == sorted(shape.seq for shape in all_shapes)
    assert len({shape.seq for shape in all_shapes}) == len(set(all_shapes))


@MANY
@given(packings())
def test_every_text_is_packed_exactly_once(packing: tuple[BatchShapes, list[Ids]]) -> None:
    """With its own ids and full attention; padding has no attention."""
    found, texts = packing
    seen = []
    for batch in found.pack(texts, pad_id=PAD):
        for place, row in enumerate(batch.rows):
            ids, length = batch.input_ids[place], len(texts[row])
            seen.append(row)
            assert ids[:length].tolist() == texts[row].tolist()
            assert set(ids[length:].tolist()) <= {PAD}
            assert batch.attention_mask[place].tolist() == [1] * length + [0] * (len(ids) - length)

    assert sorted(seen) == list(range(len(texts)))


@MANY
@given(packings())
def test_a_bucket_depends_on_the_length_only(packing: tuple[BatchShapes, list[Ids]]) -> None:
    """Every batch has the shape that each of its texts would have alone, full or not."""
    found, texts = packing
    for batch in found.pack(texts, pad_id=PAD):
        shape = found.shape_of(len(texts[batch.rows[0]]))

        assert batch.input_ids.shape == batch.attention_mask.shape == (shape.rows, shape.seq)
        assert {found.shape_of(len(texts[row])) for row in batch.rows} == {shape}
        assert batch.input_ids.dtype == batch.attention_mask.dtype == np.int64


@MANY
@given(packings())
def test_dummy_rows_contain_no_text(packing: tuple[BatchShapes, list[Ids]]) -> None:
    """They are padding that attends to one token, so that softmax never divides by zero."""
    found, texts = packing
    for batch in found.pack(texts, pad_id=PAD):
        dummies = slice(len(batch.rows), None)

        assert set(batch.input_ids[dummies].ravel().tolist()) <= {PAD}
        assert set(batch.attention_mask[dummies].sum(axis=1).tolist()) <= {1}


@MANY
@given(packings())
def test_few_batches_are_not_full(packing: tuple[BatchShapes, list[Ids]]) -> None:
    """Only the last batch of a bucket has dummy rows."""
    found, texts = packing
    partial = [
        batch.input_ids.shape
        for batch in found.pack(texts, pad_id=PAD)
        if len(batch.rows) < len(batch.input_ids)
    ]

    assert len(partial) == len(set(partial))
