"""Corpora and bundles for benchmarks, made from the project's own samples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from exporter.publish import export_checkpoint
from schemas.config import load_config
from tests.tiny import SAMPLES, make_encoder, make_tokenizer, write_config
from trainer.loop import train


def short_corpus(rows: int, rng: np.random.Generator) -> pl.DataFrame:
    """Rows of 5 to 20 words, hardly any two alike."""
    return _corpus(rng.integers(5, 21, size=rows), rng)


def long_corpus(rows: int, rng: np.random.Generator) -> pl.DataFrame:
    """Articles with a log-normal number of words: median 346, 95th percentile 892."""
    return _corpus(
        np.exp(rng.normal(np.log(346), np.log(892 / 346) / 1.645, rows)).astype(int), rng
    )


def _corpus(words_a_row: np.ndarray, rng: np.random.Generator) -> pl.DataFrame:
    words = np.array(" ".join(pl.read_parquet(SAMPLES / "train.parquet")["text"]).split())
    starts = rng.integers(0, len(words), size=len(words_a_row))
    steps = rng.integers(1, 50, size=len(words_a_row))
    texts = [
        " ".join(words[(start + step * np.arange(count)) % len(words)])
        for start, step, count in zip(starts, steps, words_a_row, strict=True)
    ]
    domains = np.array(["UA", "CC"])[rng.integers(0, 2, size=len(texts))]
    return pl.DataFrame({"article_id": np.arange(len(texts)), "text": texts, "domain": domains})


def tiny_bundle(folder: Path) -> Path:
    """A bundle over an encoder of two small layers with random weights: fast, and worthless."""
    folder.mkdir(parents=True)
    encoder = make_encoder(folder / "encoder", tokenizer=make_tokenizer())
    config = load_config(write_config(folder / "config.toml", encoder, epochs=1))
    train(config, folder / "checkpoint")
    export_checkpoint(folder / "checkpoint", folder / "bundle")
    return folder / "bundle"
