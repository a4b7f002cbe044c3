"""Cutting and windowing token ids, with one home for trainer, exporter and batch.

The tokenizer itself comes in from outside (`tokenizers.Tokenizer`), so that this package stays free
of it; `Tokenizer` below states the part of it that is used.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from schemas.text import ENTITY_START, ModelText

IdArray = npt.NDArray[np.int32]

TEXTS_PER_CALL = 128
"""Texts handed to the tokenizer at once: enough for its threads, few enough to stay small."""


class Encoding(Protocol):
    """What the tokenizer returns for one text."""

    @property
    def ids(self) -> list[int]: ...
    @property
    def special_tokens_mask(self) -> list[int]: ...


class Tokenizer(Protocol):
    """The part of `tokenizers.Tokenizer` that is used."""

    encode_special_tokens: bool

    def encode(self, sequence: str, /) -> Encoding: ...
    def encode_batch_fast(
        self, input: list[str], /, *, add_special_tokens: bool
    ) -> Sequence[Encoding]: ...
    def token_to_id(self, token: str, /) -> int | None: ...
    def no_truncation(self) -> None: ...
    def no_padding(self) -> None: ...


@dataclass(frozen=True, slots=True)
class TokenisedText:
    """Token ids of one text, special tokens included.

    ids: (seq,) int32, at most `max_tokens` of them.
    truncated: True if characters or tokens were dropped.
    """

    ids: IdArray
    truncated: bool


class TextTokenizer:
    """Turns model texts into token ids of at most `max_tokens`, special tokens included.

    Text that spells a special token ("[SEP]") is read as plain text, never as that token. A text
    that is too long keeps its beginning or, where an entity is marked, a window around the marker.
    """

    def __init__(self, tokenizer: Tokenizer, *, max_tokens: int) -> None:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        tokenizer.encode_special_tokens = True
        self.max_tokens = max_tokens
        self._tokenizer = tokenizer
        self._marker_id = tokenizer.token_to_id(ENTITY_START)
        self._prefix, self._suffix = _special_tokens(tokenizer)
        self._room = max_tokens - len(self._prefix) - len(self._suffix)
        if self._room < 1:
            raise ValueError(f"max_tokens {max_tokens} leaves no room for text")

    def encode(self, texts: Sequence[ModelText]) -> Iterator[TokenisedText]:
        """Yield the token ids of each text, in order."""
        for first in range(0, len(texts), TEXTS_PER_CALL):
            group = texts[first : first + TEXTS_PER_CALL]
            encodings = self._tokenizer.encode_batch_fast(
                [text.text for text in group], add_special_tokens=False
            )
            for text, encoding in zip(group, encodings, strict=True):
                yield self._cut(text, encoding.ids)

    def _cut(self, text: ModelText, ids: list[int]) -> TokenisedText:
        kept = ids
        if len(ids) > self._room:
            first = self._window_start(ids)
            kept = ids[first : first + self._room]
        return TokenisedText(
            ids=np.array([*self._prefix, *kept, *self._suffix], dtype=np.int32),
            truncated=text.cut or len(kept) < len(ids),
        )

    def _window_start(self, ids: list[int]) -> int:
        """First token of the window: 0, or such that a marked entity stands in its middle."""
        if self._marker_id is None or self._marker_id not in ids:
            return 0
        centred = ids.index(self._marker_id) - self._room // 2
        return max(0, min(centred, len(ids) - self._room))


def _special_tokens(tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
    """Ids that the tokenizer puts before and after every text."""
    encoding = tokenizer.encode("a")
    mask = encoding.special_tokens_mask
    first = mask.index(0) if 0 in mask else len(mask)
    last = len(mask) - mask[::-1].index(0) if 0 in mask else len(mask)
    return encoding.ids[:first], encoding.ids[last:]
