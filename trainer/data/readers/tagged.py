"""Words with tags, as corpora of named entities have them, and CoNLL files of them.

A CoNLL file has a line for each word, columns separated by blanks, the word first and its tag last,
and a blank line between sentences (Tjong Kim Sang and De Meulder, 2003). Tags are IOB1 or IOB2.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from schemas.config.models import DataConfig, TaskConfig
from schemas.decision.spans import spans_of_tags
from schemas.errors import DataError
from schemas.kinds import KINDS
from schemas.kinds.token import GoldSpan
from schemas.text.model_text import Article
from trainer.data.readers.rows import LabelledRows, row_id

NEW_DOCUMENT = "-DOCSTART-"
OUTSIDE_TAG = "O"


def text_of_words(words: Sequence[str]) -> str:
    """Words with a space between them."""
    return " ".join(words)


def gold_of_tags(words: Sequence[str], tags: Sequence[str]) -> tuple[GoldSpan, ...]:
    """Spans of the text that `text_of_words` makes.

    tags: `O`, or `B-` or `I-` and a label, one a word. Raises ValueError for anything else.
    """
    if len(words) != len(tags):
        raise ValueError(f"{len(words)} words and {len(tags)} tags")
    labels = list(dict.fromkeys(tag[2:] for tag in tags if tag != OUTSIDE_TAG))
    numbers = [_tag_number(tag, labels) for tag in tags]
    ends, position = [], -1
    for word in words:
        position += 1 + len(word)
        ends.append(position)
    return tuple(
        GoldSpan(ends[first] - len(words[first]), ends[last], labels[label])
        for first, last, label in spans_of_tags(numbers)
    )


def read_conll_part(data: DataConfig, task: TaskConfig, part: str) -> LabelledRows:
    """Read the sentences of one part, each as an article.

    The path is a file, all of it for training; or a folder, where `train_value` and
    `validation_value` are names of files. Raises DataError with the file and the line.
    """
    if not KINDS[task.kind].NEEDS_WORDS:
        raise DataError(
            f"{data.path}: files of tagged words are for tasks that find spans, not for kind "
            f"{task.kind!r}"
        )
    path = data.path
    if path.is_dir():
        path /= (data.train_value if part == "train" else data.validation_value) or ""
    elif part != "train":
        raise DataError(
            f"{path}: is one file, and has no validation part",
            hint="name its folder, and the files in it with train_value and validation_value",
        )
    articles, gold, names, ids = [], [], [], []
    for line, words, tags in _sentences(path):
        try:
            gold.append(gold_of_tags(words, tags))
        except ValueError as error:
            raise DataError(f"{path}, sentence at line {line}: {error}") from error
        articles.append(Article(text_of_words(words)))
        names.append(f"{path}, sentence at line {line}")
        ids.append(row_id(path, line))
    if not articles:
        raise DataError(f"{path}: has no sentences", hint="is it a file in the CoNLL format?")
    return LabelledRows(source=str(path), articles=articles, gold=gold, row_names=names, ids=ids)


def _sentences(path: Path) -> Iterator[tuple[int, list[str], list[str]]]:
    """First line, words and tags of each sentence."""
    words: list[str] = []
    tags: list[str] = []
    first = 1
    for number, line in enumerate([*_read(path).split("\n"), ""], start=1):
        columns = line.split()
        if columns and columns[0] != NEW_DOCUMENT:
            if len(columns) < 2:
                raise DataError(
                    f"{path}, line {number}: {line[:60]!r} has no tag",
                    hint="expected a word, and its tag in the last column",
                )
            first = first if words else number
            words.append(columns[0])
            tags.append(columns[-1])
        elif words:
            yield first, words, tags
            words, tags = [], []


def _read(path: Path) -> str:
    try:
        raw = path.read_bytes()
        return (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode("utf-8")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read: {error}", hint="is the file complete?") from error


def _tag_number(tag: str, labels: Sequence[str]) -> int:
    if tag == OUTSIDE_TAG:
        return 0
    if tag[:2] not in ("B-", "I-") or not tag[2:]:
        raise ValueError(f"tag {tag[:60]!r}, expected O, or B- or I- and a label")
    return 1 + 2 * labels.index(tag[2:]) + (tag[0] == "I")
