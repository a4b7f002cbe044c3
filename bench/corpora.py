"""Corpora for benchmarks, made from the project's own samples."""

from __future__ import annotations

import numpy as np
import polars as pl

from bench.texts import corpus_table


def short_corpus(rows: int, rng: np.random.Generator) -> pl.DataFrame:
    """Rows of 5 to 20 words, hardly any two alike."""
    return pl.DataFrame(corpus_table("short", rows, rng))


def news_corpus(rows: int, rng: np.random.Generator) -> pl.DataFrame:
    """News with a log-normal number of words: median 108, 95th percentile 474."""
    return pl.DataFrame(corpus_table("news", rows, rng))


def long_corpus(rows: int, rng: np.random.Generator) -> pl.DataFrame:
    """Articles with a log-normal number of words: median 346, 95th percentile 892."""
    return pl.DataFrame(corpus_table("long", rows, rng))
