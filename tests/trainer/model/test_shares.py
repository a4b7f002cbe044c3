"""What heads that start from the frequency of labels promise."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import polars as pl
import pytest
import torch

from schemas.config.models import TrainingRun
from trainer.checkpoint.reader import Checkpoint
from trainer.model.heads import MeanHead
from trainer.training.loop import train

MakeRun: TypeAlias = Callable[..., TrainingRun]
STILL = (
    "train.epochs=1",
    "train.learning_rate=1e-12",
    "train.weight_decay=0.0",
    "tasks.topics.lexical_features=false",
)
"""A run that hardly moves a weight."""


def bias_and_shares(run: TrainingRun, folder: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """The bias of the trained head, and the labels' shares of the training rows."""
    checkpoint = Checkpoint.open(train(run, folder).folder)
    head, facts = checkpoint.model.heads["topics"], checkpoint.info.tasks["topics"].training
    assert isinstance(head, MeanHead)
    return head.linear.bias.detach(), torch.tensor(facts.positives) / facts.train_rows


def test_labels_start_from_their_odds(make_run: MakeRun, tmp_path: Path) -> None:
    """The sigmoid of a label's bias is its share of the training rows."""
    bias, expected = bias_and_shares(make_run(*STILL), tmp_path / "out")

    assert torch.sigmoid(bias).tolist() == pytest.approx(expected.tolist(), abs=0.02)


@pytest.fixture
def uneven(corpus: Path) -> Path:
    """One topic a row, half of the rows about oil left out."""
    one = pl.read_parquet(corpus).with_columns(pl.col("labels").list.first())
    is_kept = (pl.col("labels") != "oil") | (pl.int_range(pl.len()) % 2 == 0)
    one.filter(is_kept).write_parquet(corpus)
    return corpus


@pytest.mark.usefixtures("uneven")
def test_classes_start_from_their_shares(make_run: MakeRun, tmp_path: Path) -> None:
    """The softmax of the biases is."""
    run = make_run(*STILL, "tasks.topics.kind=multiclass")
    bias, expected = bias_and_shares(run, tmp_path / "out")

    assert expected.max() > 1.5 * expected.min()
    assert torch.softmax(bias, dim=0).tolist() == pytest.approx(expected.tolist(), abs=0.02)


@pytest.mark.usefixtures("uneven")
def test_equally_frequent_classes_start_alike(make_run: MakeRun, tmp_path: Path) -> None:
    """Sampling that makes all classes equally frequent leaves nothing of the shares in the data."""
    run = make_run(*STILL, "tasks.topics.kind=multiclass", "tasks.topics.sampling=class_aware")
    bias, _ = bias_and_shares(run, tmp_path / "out")

    assert torch.softmax(bias, dim=0).tolist() == pytest.approx([1 / 3] * 3, abs=0.05)
