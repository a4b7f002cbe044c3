"""Held-out rows that the lexical term has learned from are judged as if it had not."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batch.engines.graph_file import GraphFile
from exporter.bundle.export import export_checkpoint
from exporter.bundle.inspection import read_metadata
from schemas.config.files import load_config
from schemas.decision.metrics import F1Scores
from schemas.errors import CheckpointError
from tests.label_tasks import KIND
from trainer.checkpoint.reader import CORRECTION, Checkpoint
from trainer.training.loop import train

WORDS = [f"{first}{second}" for first in "bdfgklmnprst" for second in "aeiou"]
ROWS = 240


@pytest.fixture(scope="module")
def checkpoint(encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A task where one word is right three times in four, and an encoder that stays as it is."""
    folder, rng = tmp_path_factory.mktemp("chance"), np.random.default_rng(5)
    texts = [" ".join([*rng.choice(WORDS, 12), *["aid"] * (row % 2)]) for row in range(ROWS)]
    labels = [["odd" if (row % 2) == (rng.random() < 0.75) else "even"] for row in range(ROWS)]
    pl.DataFrame({"text": texts, "labels": labels}).write_parquet(folder / "rows.parquet")
    (folder / "config.toml").write_text(
        f"""
        seed = 3
        [encoder]
        source = "{encoder}"
        max_tokens = 64
        [train]
        epoch_steps = 1
        epochs = 1
        learning_rate = 1e-12
        precision = "fp32"
        [tasks.chance]
        kind = "{KIND}"
        [[tasks.chance.data]]
        path = "rows.parquet"
        validation_share = 0.5
        """
    )
    train(load_config(folder / "config.toml"), folder / "checkpoint")
    return folder / "checkpoint"


def test_scores_of_an_export_are_those_of_texts_never_seen(
    checkpoint: Path, tmp_path: Path
) -> None:
    """What is learned by heart does not count."""
    export_checkpoint(checkpoint, tmp_path / "bundle", precisions=())
    metadata = read_metadata(GraphFile.of_path(tmp_path / "bundle" / "chance.onnx"))["chance"]
    unseen = metadata.metrics.cross_validated

    assert isinstance(unseen, F1Scores)
    assert unseen.rows == ROWS // 2
    assert unseen.micro_f1 < 0.8


def test_term_has_learned_from_the_held_out_rows(checkpoint: Path) -> None:
    """Without their corrections, outputs of the held-out rows say what was learned by heart."""
    opened = Checkpoint.open(checkpoint)
    corrections = opened.corrections("chance")
    assert corrections is not None
    articles, gold = opened.heldout("chance")
    assert len(corrections) == len(articles) == ROWS // 2

    labels = opened.info.tasks["chance"].labels
    has = np.array([[label in row for label in labels] for row in gold])
    toward_gold = np.where(has, 1, -1) * -np.stack(corrections)
    assert (toward_gold > 0).mean() > 0.7
    assert toward_gold.mean() > 0.3


@pytest.mark.parametrize("damaged", [None, [0.5], [0.5, 0.5, 0.5]])
def test_corrections_of_another_model_are_refused(
    checkpoint: Path, tmp_path: Path, damaged: list[float] | None
) -> None:
    """A held-out row without a correction, or with that of other labels, is named."""
    copied = tmp_path / "checkpoint"
    shutil.copytree(checkpoint, copied)
    path = copied / "heldout" / "chance.parquet"
    table = pq.read_table(path)
    corrections = table[CORRECTION].to_pylist()
    corrections[7] = damaged
    column = pa.array(corrections, table.schema.field(CORRECTION).type)
    pq.write_table(table.set_column(len(table.schema) - 1, CORRECTION, column), path)

    with pytest.raises(CheckpointError, match=r"row 7: expected a correction of 2 numbers, found"):
        export_checkpoint(copied, tmp_path / "bundle", precisions=())
