"""Canonical batch shapes, which make scores independent of the other rows of a batch.

An engine may round differently when the shape of a batch differs. So a row's bucket depends on its
own length only, and every batch of a bucket has one fixed shape, filled up with dummy rows.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from schemas.arrays import Int32Array, Int64Array
from schemas.text.tokens import pad

SMALL_BATCH = 1024
"""Tokens up to which a batch is small: the last batch of a bucket then has few dummy rows."""
STEPS_SMALL, STEPS_LARGE = 16, 8
"""Buckets between a length and its double. Each costs the dummy rows of one batch and saves padding
(docs/adr/0001), so that more buckets pay off for small batches."""
SMALLEST_STEP = 8
"""Minimum difference in tokens between adjacent buckets."""


@dataclass(frozen=True, slots=True)
class Shape:
    """The shape of every batch of one bucket."""

    rows: int
    seq: int


@dataclass(frozen=True, slots=True)
class PackedBatch:
    """A batch of one canonical shape.

    rows: indices of the texts in its first rows; the remaining rows are dummies.
    input_ids, attention_mask: (shape.rows, shape.seq) int64.
    """

    rows: Sequence[int]
    input_ids: Int64Array
    attention_mask: Int64Array


@dataclass(frozen=True, slots=True)
class BatchShapes:
    """Mapping from a text's length to the shape of its batch.

    max_tokens: of the longest text. tokens_per_batch: maximum size of a batch, rows times seq (a
    batch of a single row may exceed it).
    """

    max_tokens: int
    tokens_per_batch: int

    def shape_of(self, length: int) -> Shape:
        """Shape of the batch for a text of `length` tokens, 1 to `max_tokens`."""
        octave = 1 << (max(length, 2) - 1).bit_length() - 1  # largest power of 2 below `length`
        steps = STEPS_SMALL if self.tokens_per_batch <= SMALL_BATCH else STEPS_LARGE
        step = max(SMALLEST_STEP, octave // steps)
        seq = min(-(-length // step) * step, self.max_tokens)
        return Shape(rows=max(1, self.tokens_per_batch // seq), seq=seq)

    def pack(self, texts: Sequence[Int32Array], *, pad_id: int) -> Iterator[PackedBatch]:
        """Yield batches that contain every text once, shortest bucket first.

        texts: token ids of each text, (seq,) int32 and not empty.
        """
        by_length: dict[int, list[int]] = defaultdict(list)
        for row, ids in enumerate(texts):
            by_length[len(ids)].append(row)
        buckets: dict[Shape, list[int]] = defaultdict(list)
        for length in sorted(by_length):
            buckets[self.shape_of(length)] += by_length[length]
        for shape, members in buckets.items():  # longer texts have longer shapes
            for first in range(0, len(members), shape.rows):
                yield fill(texts, members[first : first + shape.rows], shape, pad_id)


def fill(
    texts: Sequence[Int32Array], rows: Sequence[int], shape: Shape, pad_id: int
) -> PackedBatch:
    """Pack the rows `rows` of `texts` into one batch of `shape`, filled up with dummy rows."""
    input_ids, attention_mask = pad(
        [texts[row] for row in rows], rows=shape.rows, seq=shape.seq, pad_id=pad_id
    )
    attention_mask[len(rows) :, 0] = 1  # a dummy row attends to one token, or softmax divides 0/0
    return PackedBatch(rows, input_ids, attention_mask)
