"""Tables of the public sets, one a task, with the columns that the configs name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import polars as pl
import polars.selectors as cs

from bench.few.sets import GOLD, TEXT, texts_and_spans

Tables: TypeAlias = Mapping[str, pl.DataFrame]
"""Rows by task."""

SPLIT = "split"
TEXT_LABEL = "labels"
"""Column of the label of a text."""
TRAIN = "train"


def sentiment(data: Path) -> Tables:
    """Film reviews; `split` is `train` or `test`."""
    return {"sentiment": _one_label(pl.read_parquet(data / "imdb" / "imdb.parquet"))}


def polarity(data: Path) -> Tables:
    """Sentences of film reviews."""
    return {"polarity": _one_label(pl.read_parquet(data / "rt-polarity" / "rt-polarity.parquet"))}


def questions(data: Path) -> Tables:
    """Questions, each once, with a coarse and a fine class."""
    rows = pl.read_parquet(data / "trec-qc" / "trec-qc.parquet")
    return {"question": _one_label(rows.unique("text", maintain_order=True))}


def bias(data: Path) -> Tables:
    """News sentences; the one that the annotators did not agree on is left out."""
    rows = _one_label(pl.read_parquet(data / "babe" / "babe.parquet"))
    return {"bias": rows.filter(pl.col("labels") != "No agreement")}


def entities(data: Path) -> Tables:
    """Tagged sentences, as words and as text; `split` is `train` or `valid`."""
    rows = pl.read_parquet(data / "conll2003" / "conll2003.parquet")
    texts = texts_and_spans(rows)
    return {"entities": rows.with_columns(texts[TEXT], texts[GOLD].alias("entities"))}


def semeval(data: Path, languages: Sequence[str]) -> Tables:
    """News articles with narratives, and their entities with roles."""
    folder = data / "semeval2025-task10"
    files = {"narratives": "semeval2025-narratives", "roles": "semeval2025-entity-framing"}
    of_languages = pl.col("language").is_in(languages)
    tables = {
        task: pl.read_parquet(folder / f"{name}.parquet").filter(of_languages)
        for task, name in files.items()
    }
    return {**tables, "narratives": tables["narratives"].with_columns(article="id")}


def leaning(data: Path) -> Tables:
    """News articles with a leaning and a publisher, of the training part."""
    rows = _one_label(pl.read_parquet(data / "article-bias" / "article-bias.parquet"))
    return {"leaning": rows.filter(pl.col(SPLIT) == TRAIN)}


def also(data: Path, read: Callable[[Path], Tables], tasks: Sequence[str]) -> Tables:
    """The rows of a set of one task, for further tasks too."""
    tables = read(data)
    (rows,) = tables.values()
    return {**tables, **dict.fromkeys(tasks, rows)}


MEDIUM = "labels_medium"
"""Column of the topics of a story that are neither frequent nor rare."""
MEDIUM_ROWS = (9, 34)
"""Training stories of such a topic, those that a run holds out included."""


def stories(data: Path) -> Tables:
    """Newswire stories with topics; `split` is `train` or `test`."""
    rows = pl.read_parquet(data / "reuters21578" / "reuters21578.parquet")
    trained = rows.filter(pl.col(SPLIT) == TRAIN)["labels"].explode().value_counts()
    medium = trained.filter(pl.col("count").is_between(*MEDIUM_ROWS))["labels"].to_list()
    of_story = pl.col("labels").list.eval(pl.element().filter(pl.element().is_in(medium)))
    return {"topics": rows.with_columns(of_story.alias(MEDIUM))}


JOINT_ROWS = 2000


def several(data: Path) -> Tables:
    """Rows of four sets, 2,000 of each training part."""
    every = {**stories(data), **sentiment(data), **entities(data), **questions(data)}
    training = {task: rows.filter(pl.col(SPLIT) == TRAIN) for task, rows in every.items()}
    return {task: rows.sample(JOINT_ROWS, seed=0) for task, rows in training.items()}


def one_of_several(data: Path, task: str) -> Tables:
    """The same rows of one of them."""
    return {task: several(data)[task]}


def news(data: Path) -> Tables:
    """Short news texts, each with its class."""
    rows = pl.read_parquet(data / "agnews-short" / "agnews-short.parquet")
    return {"embedding": _one_label(rows)}


def _one_label(rows: pl.DataFrame) -> pl.DataFrame:
    """Labels as text in place of lists of one."""
    return rows.with_columns(cs.starts_with("labels").list.first())
