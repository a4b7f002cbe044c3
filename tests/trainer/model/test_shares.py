"""What heads that start from the frequency of labels promise."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import polars as pl
import pytest
import torch

from schemas.config.models import TrainingRun
from schemas.text.model_text import Article, model_text
from schemas.text.tokens import TextTokenizer
from trainer.checkpoint.reader import Checkpoint
from trainer.training.loop import train

MakeRun: TypeAlias = Callable[..., TrainingRun]
STILL = (
    "train.epochs=1",
    "train.learning_rate=1e-12",
    "train.weight_decay=0.0",
    "tasks.topics.lexical_features=false",
)
"""A run that hardly moves a weight."""


def mean_logits_and_shares(run: TrainingRun, folder: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean logits of the training rows, and the labels' shares of them."""
    checkpoint = Checkpoint.open(train(run, folder).folder)
    facts, text = checkpoint.info.tasks["topics"].training, checkpoint.info.tasks["topics"].text
    path = checkpoint.model.path("topics").eval()
    most = checkpoint.info.max_tokens
    tokenizer = TextTokenizer(checkpoint.tokenizer, max_tokens=most)
    texts = [
        model_text(Article(row["text"], title=row["title"]), text, max_tokens=most)
        for row in pl.read_parquet(folder.parent / "corpus.parquet").iter_rows(named=True)
    ]
    with torch.inference_mode():
        logits = [
            path(torch.tensor([one.ids.tolist()]), torch.ones(1, len(one.ids), dtype=torch.int64))
            for one in tokenizer.encode(texts, text)
        ]
    return torch.cat(logits).mean(dim=0), torch.tensor(facts.positives) / facts.train_rows


def test_labels_start_from_their_odds(make_run: MakeRun, tmp_path: Path) -> None:
    """The sigmoid of a label's mean logit is its share of the training rows."""
    logits, expected = mean_logits_and_shares(make_run(*STILL), tmp_path / "out")

    assert torch.sigmoid(logits).tolist() == pytest.approx(expected.tolist(), abs=0.04)


@pytest.fixture
def uneven(corpus: Path) -> Path:
    """One topic a row, half of the rows about oil left out."""
    one = pl.read_parquet(corpus).with_columns(pl.col("labels").list.first())
    is_kept = (pl.col("labels") != "oil") | (pl.int_range(pl.len()) % 2 == 0)
    one.filter(is_kept).write_parquet(corpus)
    return corpus


@pytest.mark.usefixtures("uneven")
def test_classes_start_from_their_shares(make_run: MakeRun, tmp_path: Path) -> None:
    """The softmax of the mean logits is."""
    run = make_run(*STILL, "tasks.topics.kind=multiclass")
    logits, expected = mean_logits_and_shares(run, tmp_path / "out")

    assert expected.max() > 1.5 * expected.min()
    assert torch.softmax(logits, dim=0).tolist() == pytest.approx(expected.tolist(), abs=0.04)


@pytest.mark.usefixtures("uneven")
def test_equally_frequent_classes_start_alike(make_run: MakeRun, tmp_path: Path) -> None:
    """Sampling that makes all classes equally frequent leaves nothing of the shares in the data."""
    run = make_run(*STILL, "tasks.topics.kind=multiclass", "tasks.topics.sampling=class_aware")
    logits, _ = mean_logits_and_shares(run, tmp_path / "out")

    assert torch.softmax(logits, dim=0).tolist() == pytest.approx([1 / 3] * 3, abs=0.05)
