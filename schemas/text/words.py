"""Words of a text, and where they are in the text that the article came with."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from schemas.arrays import Int32Array, Int64Array
from schemas.text.windows import Windows

NOWHERE = -1
"""Offset of what is not in the article's text: the title, inserted characters, special tokens."""


@dataclass(frozen=True, slots=True)
class Words:
    """Words of a tokenized text.

    starts, ends: (tokens,) int32, characters of `source` that a word covers, at its first token;
    NOWHERE at every other token. source: text of the article.
    """

    starts: Int32Array
    ends: Int32Array
    source: str

    @property
    def tokens(self) -> Int64Array:
        """(words,) int64, the first token of each word."""
        return np.flatnonzero(self.starts != NOWHERE)

    def take(self, pieces: Sequence[slice], before: int, after: int) -> Words:
        """Words of some tokens, one piece after the other, between so many special tokens."""
        starts, ends = (
            np.concatenate(
                [
                    np.full(before, NOWHERE, np.int32),
                    *(values[piece] for piece in pieces),
                    np.full(after, NOWHERE, np.int32),
                ]
            )
            for values in (self.starts, self.ends)
        )
        return Words(starts, ends, self.source)

    def in_windows(self, windows: Windows) -> list[Words]:
        """Words of each window of the text."""
        cut = zip(windows.cut(self.starts), windows.cut(self.ends), strict=True)
        return [Words(starts, ends, self.source) for starts, ends in cut]


def find_words(
    offsets: Sequence[tuple[int, int]],
    numbers: Sequence[int | None],
    text: str,
    source: str,
    body: int,
) -> Words:
    """Words of a text from what its tokenizer says.

    offsets: characters of `text` that each token covers. numbers: the word that each token belongs
    to, None for none. source: the article's text. body: where that begins in `text`.
    """
    places = source_places(text, source, body)
    words = np.array([NOWHERE if number is None else number for number in numbers], np.int64)
    starts = np.full(len(words), NOWHERE, np.int32)
    ends = np.full(len(words), NOWHERE, np.int32)
    is_first = np.diff(words, prepend=NOWHERE - 1) != 0
    firsts = np.flatnonzero(is_first)
    lasts = np.flatnonzero(np.append(is_first[1:], True)) if len(words) else firsts
    for first, last in zip(firsts.tolist(), lasts.tolist(), strict=True):
        start, end = offsets[first][0], offsets[last][1]
        while start < end and text[start].isspace():  # byte-level tokens include the blank before
            start += 1
        if words[first] == NOWHERE or start >= end:
            continue
        if places[start] != NOWHERE and places[end - 1] != NOWHERE:
            starts[first] = places[start]
            ends[first] = _whole_character(source, int(places[end - 1]) + 1)
    return Words(starts, ends, source)


def source_places(text: str, source: str, body: int) -> Int32Array:
    """Where each character of a model text is in the text of its article, (characters,) int32.

    body: where the article's text begins in `text`. `schemas.text.model_text` drops blanks and
    inserts a blank into markers; everything else is as it was.
    """
    places = np.full(len(text), NOWHERE, np.int32)
    start = len(source) - len(source.lstrip())
    if source.startswith(text[body:], start):
        places[body:] = np.arange(start, start + len(text) - body, dtype=np.int32)
        return places
    at = start
    for place in range(body, len(text)):
        character = text[place]
        if character == " " and source[at : at + 1] == "]":
            continue  # inserted
        while at < len(source) and source[at] != character and source[at].isspace():
            at += 1
        if at < len(source) and source[at] == character:
            places[place] = at
            at += 1
    return places


def _whole_character(source: str, end: int) -> int:
    """The end of a word, after the combining characters that belong to its last character."""
    while end < len(source) and unicodedata.combining(source[end]):
        end += 1
    return end
