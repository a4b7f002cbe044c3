"""Heads start from the frequency of labels."""

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


@pytest.fixture
def uneven(corpus: Path) -> Path:
    """Half of the rows about oil and a quarter of those about ships, with a column of one topic."""
    topic = pl.col("labels").list.first()
    number = pl.int_range(pl.len()) // 3
    every = topic.replace_strict({"grain": 1, "oil": 2, "ships": 4})
    kept = number % every == 0
    pl.read_parquet(corpus).filter(kept).with_columns(topic=topic).write_parquet(corpus)
    return corpus


@pytest.mark.usefixtures("uneven")
@pytest.mark.parametrize("head", ["mean", "label_attention"])
def test_labels_start_from_their_odds(make_run: MakeRun, tmp_path: Path, head: str) -> None:
    """The sigmoid of a label's mean logit is its share of the training rows."""
    logits, expected = mean_logits_and_shares(
        make_run(*STILL, f"tasks.topics.head={head}"), tmp_path / "out"
    )

    assert expected.max() > 2 * expected.min()
    assert torch.sigmoid(logits).tolist() == pytest.approx(expected.tolist(), abs=0.05)


@pytest.mark.usefixtures("uneven")
@pytest.mark.parametrize("sampling", ["none", "class_aware"])
def test_classes_start_from_their_shares(make_run: MakeRun, tmp_path: Path, sampling: str) -> None:
    """The softmax of the mean logits is a class's share of the rows that an epoch draws."""
    overrides = (
        "tasks.topics.kind=multiclass",
        "tasks.topics.data.0.labels_column=topic",
        f"tasks.topics.sampling={sampling}",
    )
    logits, shares = mean_logits_and_shares(make_run(*STILL, *overrides), tmp_path / "out")
    expected = [1 / 3] * 3 if sampling == "class_aware" else shares.tolist()

    assert shares.max() > 2 * shares.min()
    assert torch.softmax(logits, dim=0).tolist() == pytest.approx(expected, abs=0.06)
