"""Cutting and windowing token ids, with one home for trainer, exporter and batch.

The tokenizer itself comes in from outside (`tokenizers.Tokenizer`), so that this package stays free
of it; `Tokenizer` below states the part of it that is used.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, pairwise
from typing import Literal, Protocol

import numpy as np

from schemas.arrays import Int32Array, Int64Array
from schemas.text.model_text import ENTITY_START, ModelText, TextSpec
from schemas.text.windows import Windows, WindowSpec
from schemas.text.word_ids import WordIds
from schemas.text.words import Words, find_words

ReadStatus = Literal["ok", "windowed", "truncated"]
"""What was read of a text: all of it at once, all of it in windows, or a part."""

UNKNOWN_TOKENS = ("[UNK]", "<unk>")
"""What the unknown token is called."""

BERT_STEPS = ["BertNormalizer", "BertPreTokenizer", "WordPiece"]
"""Classes of the normalizer, the pre-tokenizer and the model of BERT's tokenizers."""

TEXTS_PER_CALL = 128
"""Texts handed to the tokenizer at once: enough for its threads, few enough to stay small."""

TEXTS_PER_LOOKUP = 1024
"""Texts whose words are looked up at once: most words of a text occur in another of them too."""


class Encoding(Protocol):
    """What the tokenizer returns for one text."""

    @property
    def ids(self) -> list[int]: ...
    @property
    def special_tokens_mask(self) -> list[int]: ...
    @property
    def offsets(self) -> list[tuple[int, int]]: ...
    @property
    def word_ids(self) -> list[int | None]: ...


class AddedToken(Protocol):
    """A token that the tokenizer knows beside its vocabulary."""

    @property
    def special(self) -> bool: ...
    @property
    def content(self) -> str: ...
    @property
    def lstrip(self) -> bool: ...
    @property
    def rstrip(self) -> bool: ...
    @property
    def single_word(self) -> bool: ...


class Tokenizer(Protocol):
    """The part of `tokenizers.Tokenizer` that is used."""

    encode_special_tokens: bool

    @property
    def normalizer(self) -> object: ...
    @property
    def pre_tokenizer(self) -> object: ...
    @property
    def model(self) -> object: ...
    def encode(self, sequence: str, /) -> Encoding: ...
    def encode_batch(
        self, input: list[str], /, *, add_special_tokens: bool
    ) -> Sequence[Encoding]: ...
    def encode_batch_fast(
        self, input: list[str], /, *, add_special_tokens: bool
    ) -> Sequence[Encoding]: ...
    def token_to_id(self, token: str, /) -> int | None: ...
    def get_added_tokens_decoder(self) -> Mapping[int, AddedToken]: ...
    def no_truncation(self) -> None: ...
    def no_padding(self) -> None: ...


@dataclass(frozen=True, slots=True)
class TokenizedText:
    """Token ids of one text, special tokens included.

    ids: (seq,) int32, at most `max_tokens` of them, or more in windows.
    truncated: True if characters or tokens were dropped.
    words: where words are, for a text that has a `source` (`ModelText`).
    windows: of a text that the model reads in several.
    """

    ids: Int32Array
    truncated: bool
    words: Words | None = None
    windows: Windows | None = None

    @property
    def status(self) -> ReadStatus:
        """What was read of the text."""
        if self.truncated:
            return "truncated"
        return "ok" if self.windows is None else "windowed"

    @property
    def pieces(self) -> list[TokenizedText]:
        """What the model reads at once: each window, or the whole text."""
        if self.windows is None:
            return [self]
        pieces = [TokenizedText(ids, truncated=False) for ids in self.windows.cut(self.ids)]
        if self.words is None:
            return pieces
        words = self.words.in_windows(self.windows)
        return [replace(piece, words=own) for piece, own in zip(pieces, words, strict=True)]


PLAIN_TEXT = TextSpec()
"""Of texts without an entity, of which the beginning is read."""


class TextTokenizer:
    """Turns model texts into token ids of at most `max_tokens`, special tokens included.

    Raises OverflowError, here or in `encode`, for a vocabulary whose ids are no int32.

    Text that spells a special token ("[SEP]") is read as plain text, never as that token. A text
    that is too long keeps its beginning, with `head_tail` half of the tokens from each end, or
    where an entity is marked those around the marker; or it is read in windows.
    """

    def __init__(self, tokenizer: Tokenizer, *, max_tokens: int) -> None:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        tokenizer.encode_special_tokens = True
        self.max_tokens = max_tokens
        self._tokenizer = tokenizer
        self._marker_id = tokenizer.token_to_id(ENTITY_START)
        self._prefix, self._suffix = _special_tokens(tokenizer)
        added = tokenizer.get_added_tokens_decoder().items()
        self._special = np.array([number for number, token in added if token.special], np.int64)
        unknown = (tokenizer.token_to_id(name) for name in UNKNOWN_TOKENS)
        self._unknown = next((number for number in unknown if number is not None), None)
        self._ids_of, self.texts_per_call = self._tokenize, TEXTS_PER_CALL
        if treats_words_alone(tokenizer):
            self._ids_of, self.texts_per_call = WordIds(self._tokenize).of_texts, TEXTS_PER_LOOKUP
        self._room = max_tokens - len(self._prefix) - len(self._suffix)
        if self._room < 1:
            raise ValueError(f"max_tokens {max_tokens} leaves no room for text")

    def encode(
        self,
        texts: Sequence[ModelText],
        spec: TextSpec = PLAIN_TEXT,
        windows: WindowSpec | None = None,
    ) -> Iterator[TokenizedText]:
        """Yield the token ids of each text, in order.

        spec: says what is read of texts that are too long. windows: in which those are read
        instead.
        """
        for first in range(0, len(texts), self.texts_per_call):
            group = texts[first : first + self.texts_per_call]
            for text, ids, words in self._tokens_of(group):
                if windows is None:
                    yield self._cut(text, ids, words, spec)
                else:
                    yield self._in_windows(text, ids, words, windows)

    def _tokens_of(
        self, texts: Sequence[ModelText]
    ) -> Iterator[tuple[ModelText, Int32Array, Words | None]]:
        """Each text with the ids of all its tokens, and its words if any of them has a source."""
        if any(text.source is not None for text in texts):
            yield from self._with_words(texts)
            return
        for text, ids in zip(texts, self._ids_of([text.text for text in texts]), strict=True):
            yield text, ids, None

    def _with_words(
        self, texts: Sequence[ModelText]
    ) -> Iterator[tuple[ModelText, Int32Array, Words | None]]:
        encodings = self._tokenizer.encode_batch(
            [text.text for text in texts], add_special_tokens=False
        )
        plain = self._plain_ids([encoding.ids for encoding in encodings])
        for text, encoding, ids in zip(texts, encodings, plain, strict=True):
            words = find_words(
                encoding.offsets, encoding.word_ids, text.text, text.source or "", text.body
            )
            yield text, ids, words

    def _tokenize(self, texts: Sequence[str]) -> Iterator[Int32Array]:
        """Ids of each text, (length,) int32."""
        encodings = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        return self._plain_ids([encoding.ids for encoding in encodings])

    def _plain_ids(self, lists: Sequence[list[int]]) -> Iterator[Int32Array]:
        """Ids of each text, (length,) int32, with the unknown token in place of special ones.

        SentencePiece vocabularies have "</s>" among their ordinary pieces, so that a text which
        spells it would end there. A vocabulary without an unknown token loses them.
        """
        ends = np.cumsum([0, *map(len, lists)])
        # All texts at once: array calls for each would take longer than everything else here.
        every = np.fromiter(chain.from_iterable(lists), np.int32, int(ends[-1]))  # (tokens,)
        special = np.isin(every, self._special)
        if self._unknown is not None:
            every[special] = self._unknown
        loses_ids = self._unknown is None and bool(special.any())
        for first, end in pairwise(ends.tolist()):
            ids = every[first:end]
            yield ids[~special[first:end]] if loses_ids else ids

    def _cut(
        self, text: ModelText, ids: Int32Array, words: Words | None, spec: TextSpec
    ) -> TokenizedText:
        room = self._room
        if spec.entity_tokens is not None:
            room = min(room, spec.entity_tokens - len(self._prefix) - len(self._suffix))
        pieces = [slice(0, len(ids))]
        if len(ids) > room and spec.truncation == "head_tail":
            tail = room // 2
            pieces = [slice(0, room - tail), slice(len(ids) - tail, len(ids))]
        elif len(ids) > room:
            first = self._window_start(ids, room)
            pieces = [slice(first, first + room)]
        return self._joined(ids, words, pieces, truncated=text.cut or len(ids) > room)

    def _in_windows(
        self, text: ModelText, ids: Int32Array, words: Words | None, spec: WindowSpec
    ) -> TokenizedText:
        """A text whose beginning is read, as far as the windows of `spec` reach."""
        before, after = len(self._prefix), len(self._suffix)
        room = spec.tokens - before - after
        if room < 1:
            raise ValueError(f"windows of {spec.tokens} tokens leave no room for text")
        stride = min(spec.stride, room)
        read = min(len(ids), room + (spec.max_windows - 1) * stride)
        joined = self._joined(ids, words, [slice(0, read)], truncated=text.cut or read < len(ids))
        if read <= room:
            return joined
        windows = Windows.over(read, room=room, stride=stride, before=before, after=after)
        return replace(joined, windows=windows)

    def _joined(
        self, ids: Int32Array, words: Words | None, pieces: Sequence[slice], *, truncated: bool
    ) -> TokenizedText:
        """Pieces of a text, one after the other, between special tokens."""
        return TokenizedText(
            ids=np.concatenate([self._prefix, *(ids[piece] for piece in pieces), self._suffix]),
            truncated=truncated,
            words=None
            if words is None
            else words.take(pieces, len(self._prefix), len(self._suffix)),
        )

    def _window_start(self, ids: Int32Array, room: int) -> int:
        """First token of the window: 0, or such that a marked entity stands in its middle."""
        markers = np.flatnonzero(ids == self._marker_id)
        if not len(markers):
            return 0
        centered = int(markers[0]) - room // 2
        return max(0, min(centered, len(ids) - room))


def pad(
    texts: Sequence[Int32Array], *, rows: int, seq: int, pad_id: int
) -> tuple[Int64Array, Int64Array]:
    """Fill short texts up at their end.

    texts: token ids of at most `rows` texts, each (length,) int32 with at most `seq` of them.
    Returns `input_ids` and `attention_mask`, both (rows, seq) int64; the mask is 1 for real tokens.
    """
    input_ids = np.full((rows, seq), pad_id, dtype=np.int64)
    attention_mask = np.zeros((rows, seq), dtype=np.int64)
    if texts:
        lengths = np.fromiter(map(len, texts), np.int64, len(texts))
        is_token = np.arange(seq) < lengths[:, None]  # (texts, seq)
        input_ids[: len(texts)][is_token] = np.concatenate(texts)
        attention_mask[: len(texts)] = is_token
    return input_ids, attention_mask


def treats_words_alone(tokenizer: Tokenizer) -> bool:
    """True if the ids of a text are those of its words, one after the other.

    Words end at spaces and new lines. The steps of BERT change single characters, and end a token
    at all blanks.
    """
    steps = (tokenizer.normalizer, tokenizer.pre_tokenizer, tokenizer.model)
    added = tokenizer.get_added_tokens_decoder().values()
    return [type(step).__name__ for step in steps] == BERT_STEPS and not any(
        set(" \n") & set(token.content) or token.lstrip or token.rstrip or token.single_word
        for token in added
    )


def _special_tokens(tokenizer: Tokenizer) -> tuple[Int32Array, Int32Array]:
    """Ids that the tokenizer puts before and after every text, (tokens,) int32 each."""
    encoding = tokenizer.encode("a")
    mask = encoding.special_tokens_mask
    first = mask.index(0) if 0 in mask else len(mask)
    last = len(mask) - mask[::-1].index(0) if 0 in mask else len(mask)
    ids = np.array(encoding.ids, np.int32)
    return ids[:first], ids[last:]
