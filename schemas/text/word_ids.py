"""Token ids of words that occurred before, for tokenizers that treat every word alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas.arrays import Int32Array, Int64Array

MAX_BYTES = 32_000_000
"""Approximate memory of the stored words, about 150,000; at the limit all are forgotten."""
BYTES_PER_WORD = 200
"""Memory of a stored word beside its characters: two objects and an entry of a dictionary."""

TokenizeWords = Callable[[Sequence[str]], Iterator[Int32Array]]
"""Yields the token ids of each word, (tokens,) int32."""


class WordIds:
    """Token ids of texts, joined from those of their words.

    A BERT tokenizer needs half a millisecond of a core for a news article, and spends nearly all of
    it on words that occurred before; looking them up takes a twentieth of that.

    tokenize: called with words that are not stored. It must treat every word alone: the ids of a
    text are those of its words, one after the other. Words end at spaces (U+0020) and new lines.
    Several threads may use one object.
    """

    def __init__(self, tokenize: TokenizeWords, *, max_bytes: int = MAX_BYTES) -> None:
        self._tokenize, self._max_bytes = tokenize, max_bytes
        self._ids: dict[str, bytes] = {}  # int32 ids of each word
        self._bytes = 0

    def __len__(self) -> int:
        """Number of stored words."""
        return len(self._ids)

    def of_texts(self, texts: Sequence[str]) -> Iterator[Int32Array]:
        """Yield the token ids of each text, (tokens,) int32."""
        # Arrow splits and numbers the words without Python's lock, which a GPU's thread needs too.
        lines = pc.replace_substring(pa.array(texts, pa.large_string()), "\n", " ")
        words = pc.split_pattern(lines, " ")
        numbered = words.values.dictionary_encode()
        ids = self._of_words(numbered.dictionary.to_pylist())
        flat, ends = _joined(ids, numbered.indices.to_numpy())
        for first, end in pairwise(ends[words.offsets.to_numpy()].tolist()):
            yield flat[first:end]

    def _of_words(self, words: Sequence[str]) -> list[bytes]:
        """Ids of each word, int32; another thread may forget the stored ones meanwhile."""
        stored = self._ids
        ids = list(map(stored.get, words))
        new = [word for word, of_word in zip(words, ids, strict=True) if of_word is None]
        if new:
            tokenized = self._tokenize(new)
            stored.update((word, ids.tobytes()) for word, ids in zip(new, tokenized, strict=True))
            self._bytes += sum(map(len, new)) + BYTES_PER_WORD * len(new)
            if self._bytes > self._max_bytes:
                self._ids, self._bytes = {}, 0
        return [
            stored[word] if of_word is None else of_word
            for word, of_word in zip(words, ids, strict=True)
        ]


def _joined(ids: Sequence[bytes], numbers: Int32Array) -> tuple[Int32Array, Int64Array]:
    """Ids of a sequence of words, (tokens,), and where those of each word end, (words + 1,).

    ids: of each distinct word, int32. numbers: (words,), which of them a word is.
    """
    distinct = np.frombuffer(b"".join(ids), np.int32)
    counts = np.fromiter(map(len, ids), np.int64, len(ids)) // distinct.itemsize
    starts = np.cumsum(counts) - counts
    ends = np.concatenate([[0], np.cumsum(counts[numbers])])
    shift = np.repeat(starts[numbers] - ends[:-1], counts[numbers])
    return distinct[np.arange(ends[-1]) + shift], ends
