"""Data sets of the learning curves: rows to draw from, and rows to test on.

Test rows are part of what the sets give out for training, so that a recipe may be chosen on these
curves; official test sets are for reporting a chosen recipe.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
import polars as pl

from bench.paths import SAMPLES
from schemas.config.models import EncoderConfig
from trainer.data.readers.tagged import gold_of_tags, text_of_words
from trainer.model.encoders import load_encoder

TEXT, GOLD = "text", "gold"

FEW = (50, 100, 200)
MANY = (400, 800)
TESTED_SEED = 20261128
MAX_TOKENS = 128
"""Tokens that are read of a text, by every method."""


@dataclass(frozen=True, eq=False)
class LabelledSet:
    """Rows with a text and a gold value, as the data of a task have them.

    kind: of the task. metrics: scores that are compared, the main one first. pool: rows to draw
    from. tested: rows to test on. sizes: numbers of rows that are drawn.
    """

    name: str
    kind: str
    metrics: tuple[str, ...]
    pool: pl.DataFrame
    tested: pl.DataFrame
    sizes: tuple[int, ...]

    def draw(self, rows: int, number: int) -> pl.DataFrame:
        """Rows of the pool; the same arguments give the same rows, other numbers others."""
        chosen = np.random.default_rng((rows, number)).permutation(len(self.pool))[:rows]
        return self.pool[np.sort(chosen)]

    def draws(self, rows: int) -> int:
        """How often so many rows are drawn: few rows differ more. All rows are the same ones."""
        if rows <= max(FEW):
            return 5
        return 2 if rows < len(self.pool) else 1


LABELS = ("micro_f1", "macro_f1")
CLASSES = ("accuracy", "macro_f1")


def load_set(name: str, data: Path) -> LabelledSet:
    """Read a set by its name. data: folder of the public sets."""
    source = SETS[name]
    pool, tested = (_first_tokens(part) for part in source.read(data))
    sizes = [rows for rows in source.sizes if rows < len(pool)]
    every = (len(pool),) if source.with_all else ()
    return LabelledSet(name, source.kind, source.metrics, pool, tested, (*sizes, *every))


@dataclass(frozen=True)
class _Source:
    kind: str
    metrics: tuple[str, ...]
    read: Callable[[Path], tuple[pl.DataFrame, pl.DataFrame]]
    sizes: tuple[int, ...] = (*FEW, *MANY)
    with_all: bool = True


def _narratives(_data: Path) -> tuple[pl.DataFrame, pl.DataFrame]:
    pool, tested = (
        pl.read_parquet(SAMPLES / f"{name}.parquet").select(
            pl.format("{}. {}", "title", "text").alias(TEXT), pl.col("narratives").alias(GOLD)
        )
        for name in ("train", "articles")
    )
    return pool, tested


def _semeval(data: Path) -> tuple[pl.DataFrame, pl.DataFrame]:
    rows = pl.read_parquet(data / "semeval2025-task10" / "semeval2025-narratives.parquet")
    return _apart(_text_and_gold(rows.filter(pl.col("language") == "EN")), tested=100)


def _rock_news(data: Path) -> tuple[pl.DataFrame, pl.DataFrame]:
    rows = pl.read_parquet(data / "rock-news" / "rock-news.parquet")
    return _apart(_text_and_gold(rows), tested=200)


def _trec(data: Path) -> tuple[pl.DataFrame, pl.DataFrame]:
    rows = pl.read_parquet(data / "trec-qc" / "trec-qc.parquet").unique("text", maintain_order=True)
    return _apart(_one_label(_text_and_gold(rows)), tested=500)


def _imdb(data: Path) -> tuple[pl.DataFrame, pl.DataFrame]:
    rows = pl.read_parquet(data / "imdb" / "imdb.parquet").filter(pl.col("split") == "train")
    without_tags = rows.with_columns(pl.col(TEXT).str.replace_all("<br />", " ", literal=True))
    return _apart(_one_label(_text_and_gold(without_tags)), tested=500)


def _reuters(data: Path) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Half of the newest 15 % of the training stories are the test."""
    rows = pl.read_parquet(data / "reuters21578" / "reuters21578.parquet")
    rows = _text_and_gold(rows.filter(pl.col("split") == "train"))
    first_tested = round(0.85 * len(rows))
    return rows[:first_tested], rows[first_tested::2]


def _conll(data: Path) -> tuple[pl.DataFrame, pl.DataFrame]:
    rows = pl.read_parquet(data / "conll2003" / "conll2003.parquet")
    pool, tested = (rows.filter(pl.col("split") == part) for part in ("train", "valid"))
    return texts_and_spans(pool), texts_and_spans(tested)


def texts_and_spans(rows: pl.DataFrame) -> pl.DataFrame:
    """Texts and spans of characters, from the columns `tokens` and `tags`."""
    pairs = list(rows.select("tokens", "tags").iter_rows())
    spans = [[span._asdict() for span in gold_of_tags(words, tags)] for words, tags in pairs]
    return pl.DataFrame({TEXT: [text_of_words(words) for words, _ in pairs], GOLD: spans})


SETS: Mapping[str, _Source] = MappingProxyType(
    {
        "narratives": _Source("multilabel", LABELS, _narratives),
        "semeval": _Source("multilabel", LABELS, _semeval),
        "rock-news": _Source("multilabel", LABELS, _rock_news),
        "trec": _Source("multiclass", CLASSES, _trec),
        "imdb": _Source("multiclass", CLASSES, _imdb),
        "reuters": _Source("multilabel", LABELS, _reuters),
        "conll": _Source("token", LABELS, _conll, sizes=(100, 500), with_all=False),
    }
)
"""How each set is read, by name."""


def _first_tokens(rows: pl.DataFrame) -> pl.DataFrame:
    """Texts up to the last token that an encoder reads of them."""
    tokenizer = load_encoder(EncoderConfig().source, markers=False).tokenizer
    texts = rows[TEXT].to_list()
    tokens = tokenizer.encode_batch(texts, add_special_tokens=False)
    most = MAX_TOKENS - tokenizer.num_special_tokens_to_add(is_pair=False)
    ends = [max((end for _, end in one.offsets[:most]), default=0) for one in tokens]
    cut = [text[:end] for text, end in zip(texts, ends, strict=True)]
    return rows.with_columns(pl.Series(TEXT, cut))


def _text_and_gold(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.select(TEXT, pl.col("labels").alias(GOLD))


def _one_label(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.with_columns(pl.col(GOLD).list.first())


def _apart(rows: pl.DataFrame, *, tested: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    order = np.random.default_rng(TESTED_SEED).permutation(len(rows))
    return rows[np.sort(order[tested:])], rows[np.sort(order[:tested])]
