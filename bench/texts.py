"""Synthetic corpora: words of the project's samples, with realistic lengths of texts."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from bench.paths import SAMPLES

RARE_SHARE = 0.03
"""Share of words that are names made of syllables: as in a year of news, most of them are new."""
RARE_WORDS = 1_000_000
SYLLABLES = [consonant + vowel for consonant in "bdfgklmnprstvz" for vowel in "aeiou"]

Lengths = npt.NDArray[np.int64]
"""(rows,) int64, number of words of each text."""


def short_lengths(rows: int, rng: np.random.Generator) -> Lengths:
    """5 to 20 words."""
    return rng.integers(5, 21, size=rows)


def news_lengths(rows: int, rng: np.random.Generator) -> Lengths:
    """News: log-normal, median 108 words, 95th percentile 474."""
    return _log_normal(rows, rng, median=108, percentile_95=474)


def long_lengths(rows: int, rng: np.random.Generator) -> Lengths:
    """Long articles: log-normal, median 346 words, 95th percentile 892."""
    return _log_normal(rows, rng, median=346, percentile_95=892)


LENGTHS: Mapping[str, Callable[[int, np.random.Generator], Lengths]] = {
    "short": short_lengths,
    "news": news_lengths,
    "long": long_lengths,
}


def corpus_table(name: str, rows: int, rng: np.random.Generator) -> pa.Table:
    """Table with columns `article_id`, `text` and `domain`; nearly all texts differ.

    name: key of LENGTHS.
    """
    word_counts = LENGTHS[name](rows, rng)
    sample_texts = pq.read_table(SAMPLES / "train.parquet", columns=["text"])["text"].to_pylist()
    words = np.array(" ".join(sample_texts).split())
    starts = rng.integers(0, len(words), size=rows)
    steps = rng.integers(1, 50, size=rows)
    texts = []
    for start, step, count in zip(starts, steps, word_counts, strict=True):
        of_text = words[(start + step * np.arange(count)) % len(words)].tolist()
        for place in np.flatnonzero(rng.random(count) < RARE_SHARE).tolist():
            of_text[place] = rare_word(rng)
        texts.append(" ".join(of_text))
    domains = np.array(["UA", "CC"])[rng.integers(0, 2, size=rows)]
    return pa.table({"article_id": np.arange(rows), "text": texts, "domain": domains})


def rare_word(rng: np.random.Generator) -> str:
    """A name of a few syllables; the n-th of them is n times as rare as the first."""
    number = int(RARE_WORDS ** rng.random())
    syllables = []
    while number:
        number, digit = divmod(number, len(SYLLABLES))
        syllables.append(SYLLABLES[digit])
    return "".join(["Vel", *syllables])


def _log_normal(
    rows: int, rng: np.random.Generator, *, median: float, percentile_95: float
) -> Lengths:
    spread = np.log(percentile_95 / median) / 1.645
    return np.maximum(rng.lognormal(np.log(median), spread, rows).astype(np.int64), 1)
