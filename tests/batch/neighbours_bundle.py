"""A bundle of a task that is decided by nearest texts, whose training texts have various ids."""

from __future__ import annotations

from pathlib import Path

import polars as pl
from click.testing import CliRunner

from schemas.kinds.embedding import EmbeddingKind
from schemas.kinds.nearest import NearestKind
from tests.tiny import SAMPLES
from trainer.cli import main as train_classifier

NEIGHBOURS = 4
HELD_OUT = 60
WITHOUT_ID, LONG_ID, REPEATED = 3, 5, 7
"""Training rows whose id is null, is too long, and whose text comes again under another id."""


def training_rows() -> pl.DataFrame:
    """The samples, the last of them held out, with one text that comes again."""
    rows = pl.read_parquet(SAMPLES / "train.parquet").with_row_index("row")
    is_held_out = pl.col("row") >= len(rows) - HELD_OUT
    rows = rows.with_columns(
        split=pl.when(is_held_out).then(pl.lit("held out")).otherwise(pl.lit("train")),
        article_id=pl.when(pl.col("row") == WITHOUT_ID)
        .then(None)
        .when(pl.col("row") == LONG_ID)
        .then(pl.lit("x" * 300))
        .otherwise(pl.col("article_id")),
    )
    again = rows[REPEATED : REPEATED + 1].with_columns(article_id=pl.lit("again"))
    return pl.concat([rows, again])


def train_neighbours(folder: Path, encoder: Path) -> Path:
    """A checkpoint of vectors, and of topics by the nearest texts."""
    training_rows().write_parquet(folder / "rows.parquet")
    data = 'path = "rows.parquet"\nvalidation_value = "held out"\n'
    (folder / "config.toml").write_text(
        f"""
schema_version = 1
[encoder]
source = "{encoder}"
max_tokens = 128
[train]
epoch_steps = 1
precision = "fp32"
[tasks.vectors]
kind = "{EmbeddingKind.NAME}"
title = false
[[tasks.vectors.data]]
{data}
[tasks.topic]
kind = "{NearestKind.NAME}"
title = false
neighbours = {NEIGHBOURS}
[[tasks.topic.data]]
{data}labels_column = "narratives"
""",
        encoding="utf-8",
    )
    words = [str(folder / "config.toml"), "--output", str(folder / "checkpoint")]
    result = CliRunner().invoke(train_classifier, words)
    assert result.exit_code == 0, result.output
    return folder / "checkpoint"
