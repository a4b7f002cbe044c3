"""Reader for the public Reuters-21578 files (Distribution 1.0, D. D. Lewis, 1997).

The 22 `reut2-*.sgm` files, plain or gzipped. The ModApte split: LEWISSPLIT TRAIN or TEST among
stories with TOPICS="YES". The text is the title, a blank line and the body; a BRIEF story has a
title only, an UNPROC one its raw text.
"""

from __future__ import annotations

import gzip
import html
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from schemas.config.models import DataConfig, TaskConfig
from schemas.errors import DataError
from schemas.kinds import KINDS
from schemas.text.model_text import Article
from trainer.data.readers.rows import LabelledRows

TOPICS = pa.list_(pa.string())

_STORY = re.compile(r"<REUTERS (?P<attributes>[^>]*)>(?P<content>.*?)</REUTERS>", re.DOTALL)
_ATTRIBUTE = re.compile(r'(\w+)="([^"]*)"')
_TOPICS = re.compile(r"<TOPICS>(.*?)</TOPICS>", re.DOTALL)
_ITEM = re.compile(r"<D>(.*?)</D>", re.DOTALL)
_TEXT = re.compile(r"<TEXT[^>]*>(.*?)</TEXT>", re.DOTALL)
_FIELD = {name: re.compile(rf"<{name}>(.*?)</{name}>", re.DOTALL) for name in ("TITLE", "BODY")}
_TAG = re.compile(r"<[^<>]*>")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f]|&#\d{1,2};")


@dataclass(frozen=True)
class Story:
    """One story of the ModApte split.

    identifier: `training/NEWID` or `test/NEWID`.
    topics: every topic of the story, without duplicates.
    """

    identifier: str
    text: str
    topics: tuple[str, ...]


def read_stories(folder: Path, split: str) -> Iterator[Story]:
    """Yield the stories of one part of the split, in the order of the files.

    split: `TRAIN` or `TEST`.
    Raises DataError if the folder has no Reuters files, or a file has no stories.
    """
    files = {path for path in folder.glob("reut2-*.sgm*") if path.is_file()}
    # Of an archive and its unpacked copy only the copy is read.
    paths = sorted(p for p in files if p.suffix != ".gz" or p.with_suffix("") not in files)
    if not paths:
        raise DataError(
            f"{folder}: no reut2-*.sgm or reut2-*.sgm.gz files here",
            hint="name the folder with the 22 SGML files of Reuters-21578, Distribution 1.0",
        )
    for path in paths:
        stories = 0
        for match in _STORY.finditer(_read(path)):
            stories += 1
            attributes = dict(_ATTRIBUTE.findall(match["attributes"]))
            if attributes.get("LEWISSPLIT") == split and attributes.get("TOPICS") == "YES":
                yield _story(attributes["NEWID"], split, match["content"])
        if not stories:
            raise DataError(f"{path}: contains no <REUTERS> stories", hint="is the file complete?")


def _read(path: Path) -> str:
    try:
        raw = path.read_bytes()
        return (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode("latin-1")
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read: {error}", hint="is the file complete?") from error


def read_training_part(data: DataConfig, task: TaskConfig, part: str) -> LabelledRows:
    """Read the training stories that have a topic; Reuters has no validation part.

    Stories of the test part are skipped before their text is parsed.
    """
    if part != "train":
        raise DataError(
            f"{data.path}: Reuters-21578 has no validation part",
            hint="leave validation_value out; a share of the training stories is held out",
        )
    kind = KINDS[task.kind]
    if kind.HAS_LABELS and not kind.accepts_gold(TOPICS):
        raise DataError(
            f"{data.path}: Reuters-21578 has topics of stories, and a task of kind {task.kind!r} "
            f"needs {kind.GOLD_TYPES}"
        )
    stories = [story for story in read_stories(data.path, "TRAIN") if story.topics]
    return LabelledRows(
        source=str(data.path),
        articles=[Article(story.text) for story in stories],
        gold=kind.read_gold(pa.array([story.topics for story in stories], TOPICS)),
        row_names=[f"{data.path}, story {story.identifier}" for story in stories],
        ids=[story.identifier for story in stories],
    )


def _story(identifier: str, split: str, content: str) -> Story:
    topics = _TOPICS.search(content)
    names = _ITEM.findall(topics[1]) if topics else []
    part = "training" if split == "TRAIN" else "test"
    return Story(f"{part}/{identifier}", _text(content), tuple(dict.fromkeys(names)))


def _text(content: str) -> str:
    block = _TEXT.search(content)
    if block is None:
        return ""
    parts = [match[1] for name in ("TITLE", "BODY") if (match := _FIELD[name].search(block[1]))]
    raw = "\n\n".join(_clean(part) for part in parts) if parts else _clean(_TAG.sub("", block[1]))
    return raw.strip()


def _clean(raw: str) -> str:
    return html.unescape(_CONTROL.sub("", raw)).strip()
