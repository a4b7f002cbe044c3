"""The one text builder: how an article, or an entity in an article, becomes model text.

Trainer, exporter and batch all call `model_text`, so that a model is served what it was trained on.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field, replace
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Truncation = Literal["head", "head_tail"]
"""What is read of a text that is too long: its beginning, or half of the tokens each from its
beginning and its end (Sun et al., 2019, How to Fine-Tune BERT for Text Classification, head+tail).
"""

ENTITY_START = "[ENTITY]"
ENTITY_END = "[/ENTITY]"
MARKERS = (ENTITY_START, ENTITY_END)

CHARS_PER_TOKEN = 20
"""Characters kept for each token a model may see. News text has about five characters a token in
English and fewer elsewhere, so the token limit decides, not this one; it only keeps a text of
megabytes from being tokenized whole."""

MAX_BLANKS = 8
"""Longest run of blanks that is read of a text over the limit. It leaves paragraphs and indentation
alone, and text behind pages of white space still reaches the model: every 8 blanks stand beside a
token at least."""

BLANK_CLASS = (
    r"[\s\x00-\x1f\x7f-\xa0\u00ad\u115f\u1160\u200b-\u200f\u2060-\u2064\u2800\u3164\ufeff]"
)
"""White space, and characters that leave no mark on a page: controls, soft hyphens, zero widths."""

_BLANKS = re.compile(BLANK_CLASS + "+")
_LONG_RUN = re.compile(BLANK_CLASS + f"{{{MAX_BLANKS + 1}}}")


def check_truncation(truncation: Truncation, *, entity_markers: bool) -> None:
    """Raise ValueError for the ends of a text of which a window around an entity is read."""
    if entity_markers and truncation != "head":
        raise ValueError(
            f"truncation {truncation!r} has no effect with entity_markers, which read a window "
            "around the entity"
        )


def check_entity_tokens(tokens: int | None, *, entity_markers: bool) -> None:
    """Raise ValueError for a window around an entity where none is marked."""
    if tokens is not None and not entity_markers:
        raise ValueError("entity_tokens has no effect without entity_markers")


class TextSpec(BaseModel):
    """How the text of a task is built; stored in the artefact."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: bool = True
    """Put the title, where a row has one, before the body."""
    separator: str = "\n\n"
    """What stands between title and body."""
    entity_markers: bool = False
    """Mark one entity span with [ENTITY] and [/ENTITY]; rows then need `entity`, `start`, `end`."""
    truncation: Truncation = "head"
    """What is read of a text that is too long; around a marked entity it is always a window."""
    entity_tokens: int | None = Field(default=None, ge=8, exclude_if=lambda tokens: tokens is None)
    """Tokens of the window around a marked entity, special tokens included; without it, and not
    written, as many as the model reads."""

    @model_validator(mode="after")
    def _window_or_ends(self) -> Self:
        check_truncation(self.truncation, entity_markers=self.entity_markers)
        check_entity_tokens(self.entity_tokens, entity_markers=self.entity_markers)
        return self


@dataclass(frozen=True, slots=True)
class Article:
    """One row as the text builder takes it.

    start, end: character offsets of the entity into `text`, end exclusive.
    """

    text: str | None
    title: str | None = None
    entity: str | None = None
    start: int | None = None
    end: int | None = None


@dataclass(frozen=True, slots=True)
class ModelText:
    """Text ready for the tokenizer.

    cut: whether characters were dropped. source: the article's text, where words must be traced
    back to it, otherwise None. body: where that begins in `text`.
    """

    text: str
    cut: bool
    source: str | None = field(default=None, compare=False)
    body: int = field(default=0, compare=False)


EMPTY = ModelText(text="", cut=False)

HASH_DIGITS = 32
"""Hexadecimal digits of `text_hash`, 128 bits: two texts of a corpus never share them by chance."""


def text_hash(text: ModelText) -> str:
    """The first 32 hexadecimal digits of the sha256 of a model text in UTF-8."""
    return hashlib.sha256(text.text.encode()).hexdigest()[:HASH_DIGITS]


def is_blank(text: str | None) -> bool:
    """True for null, empty and white-space-only text."""
    return text is None or not text.strip()


def model_text(
    article: Article, spec: TextSpec, *, max_tokens: int, keep_source: bool = False
) -> ModelText:
    """Build the text that the tokenizer sees.

    keep_source: for tasks that find words in the article (`schemas.kinds.base.Kind.NEEDS_WORDS`).

    A row whose body is blank gives EMPTY, whatever its title. A text longer than
    `max_tokens * CHARS_PER_TOKEN` characters is cut: at the end, in the middle (`head_tail`), or
    for a marked entity around it. Before that its runs of blanks are shortened; a text within the
    limit stays as it is.

    Raises ValueError with the reason if the entity span does not fit the text.
    """
    if article.text is None or is_blank(article.text):
        return EMPTY
    max_chars = max_tokens * CHARS_PER_TOKEN
    title, title_cut = "", False
    if spec.title and article.title is not None:
        title, title_cut = _beginning(article.title.strip(), max_chars)
    head = title.strip() + spec.separator if title else ""
    if spec.entity_markers:
        built = _marked(article.text, article, head, max_chars)
    else:
        whole = article.text.lstrip()
        if spec.truncation == "head_tail":
            text, cut = _ends(whole.rstrip(), max_chars, spec.separator)
        else:
            text, cut = _beginning(whole, max_chars)
        built = ModelText(_plain(head + text), cut=cut, body=len(_plain(head)))
    built = replace(built, source=article.text) if keep_source else built
    return replace(built, cut=True) if title_cut else built


def _marked(text: str, article: Article, head: str, max_chars: int) -> ModelText:
    start, end = _checked_span(text, article)
    half = max_chars // 2
    left, left_cut = _beginning(text[:start][::-1], half)  # its end, read backwards
    span, span_cut = _beginning(text[start:end], half)
    right, right_cut = _beginning(text[end:], half)
    built = f"{_plain(head + left[::-1])}{ENTITY_START}{_plain(span)}{ENTITY_END}{_plain(right)}"
    return ModelText(built, cut=left_cut or span_cut or right_cut)


def _ends(text: str, max_chars: int, separator: str) -> tuple[str, bool]:
    """Half of `max_chars` characters from each end of a text, and True if there are more."""
    if len(text) <= max_chars:
        return text, False
    beginning, position = _read(text, max_chars // 2)
    end, end_chars = _read(text[position:][::-1], max_chars // 2)
    is_cut = end_chars < len(text) - position
    return beginning + (separator if is_cut else "") + end[::-1], is_cut


def _beginning(text: str, max_chars: int) -> tuple[str, bool]:
    """The first `max_chars` characters of a text, and True if there are more."""
    if len(text) <= max_chars:
        return text, False
    beginning, position = _read(text, max_chars)
    return beginning, position < len(text)


def _read(text: str, max_chars: int) -> tuple[str, int]:
    """Up to `max_chars` characters, runs of blanks shortened to MAX_BLANKS, and where they end.

    No more of the text is looked at than that takes.
    """
    pieces, room, position = [], max_chars, 0
    while room and position < len(text):
        run = _LONG_RUN.search(text, position, position + room + MAX_BLANKS + 1)
        end = run.start() + MAX_BLANKS if run else len(text)
        piece = text[position : min(end, position + room)]
        pieces.append(piece)
        room -= len(piece)
        position += len(piece)
        if run and position == end:
            blanks = _BLANKS.match(text, position)
            position = blanks.end() if blanks else position
    return "".join(pieces), position


def _checked_span(text: str, article: Article) -> tuple[int, int]:
    start, end = article.start, article.end
    if start is None or end is None:
        raise ValueError("entity offsets are missing: `start` and `end` are needed")
    if start >= end:
        raise ValueError(f"entity offsets are inverted or empty: start {start}, end {end}")
    if start < 0 or end > len(text):
        raise ValueError(
            f"entity offsets {start} to {end} lie outside the text of {len(text)} characters"
        )
    if article.entity is not None and text[start:end] != article.entity:
        raise ValueError(
            f"text[{start}:{end}] is {text[start:end][:60]!r}, not the entity "
            f"{article.entity[:60]!r}: are the offsets counted in characters, end exclusive?"
        )
    return start, end


def _plain(text: str) -> str:
    """Keep an article that quotes a marker from passing as a marked entity."""
    for marker in MARKERS:
        if marker in text:
            text = text.replace(marker, marker[:-1] + " ]")
    return text
