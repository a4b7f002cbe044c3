"""Small data and configs for training runs of a second."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import polars as pl
import pytest

from schemas.config.files import load_config
from schemas.config.models import TrainingRun

Row: TypeAlias = dict[str, Any]
MakeRun: TypeAlias = Callable[..., TrainingRun]

SENTENCES = {
    "grain": "The wheat harvest filled every silo on the plain",
    "oil": "The refinery by the river pumps crude day and night",
    "ships": "A freighter left the harbour with the morning tide",
}


def topic_rows() -> list[Row]:
    """48 rows of 16 articles: three topics, now and then two at once."""
    names = list(SENTENCES)
    rows = []
    for number in range(48):
        topic = names[number % 3]
        lot = "abcdefgh"[number % 8] + "klmnop"[number // 8]
        second = [names[(number + 1) % 3]] if number % 4 == 0 else []
        text = f"{SENTENCES[topic]}. {' '.join(SENTENCES[name] for name in second)} Lot {lot}."
        rows.append(
            {
                "text": text,
                "title": f"On {topic}" if number % 5 else None,
                "labels": [topic, *second],
                "article": f"article {number // 3}",
            }
        )
    return rows


def write_run(folder: Path, encoder: Path) -> Path:
    """Write a config for one task over `corpus.parquet` beside it: ten optimizer steps."""
    path = folder / "config.toml"
    path.write_text(
        f"""
        seed = 3
        [encoder]
        source = "{encoder}"
        max_tokens = 24
        [train]
        epoch_steps = 1
        epochs = 2
        batch_rows = 8
        learning_rate = 5e-3
        precision = "fp32"
        [[tasks.topics.data]]
        path = "corpus.parquet"
        validation_share = 0.25
        """
    )
    return path


def write_corpus(folder: Path, rows: list[Row]) -> Path:
    """Write the rows as a Parquet file."""
    path = folder / "corpus.parquet"
    pl.DataFrame(rows).write_parquet(path)
    return path


@pytest.fixture
def rows() -> list[Row]:
    """Rows of `topic_rows`."""
    return topic_rows()


@pytest.fixture
def corpus(tmp_path: Path, rows: list[Row]) -> Path:
    """`rows` as a Parquet file."""
    return write_corpus(tmp_path, rows)


@pytest.fixture
def config_file(tmp_path: Path, encoder: Path) -> Path:
    """The config of `write_run`, beside the corpus."""
    return write_run(tmp_path, encoder)


@pytest.fixture
def make_run(config_file: Path, corpus: Path) -> MakeRun:
    """Loads `config_file` with overrides."""
    return lambda *overrides: load_config(config_file, overrides)
