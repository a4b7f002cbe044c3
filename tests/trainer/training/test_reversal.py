"""Tasks that the encoder is trained to fail, and tasks that pick the epoch."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest
import torch
from torch import Tensor

from schemas.config.files import load_config
from schemas.config.models import TrainingRun
from schemas.errors import ConfigError, UsageError
from schemas.kinds.nearest import NearestKind
from tests.trainer.conftest import Row
from trainer.checkpoint.reader import Checkpoint
from trainer.evaluation.history import read_history
from trainer.model.encoders import load_encoder
from trainer.model.heads import MeanHead
from trainer.model.multitask import MultiTaskModel
from trainer.training.loop import train

ADVERSARY = "tasks.publisher.reversal"


@pytest.fixture
def two_tasks(tmp_path: Path, config_file: Path, rows: list[Row]) -> Path:
    """A config whose second task finds the publisher of the same rows."""
    publishers = [f"publisher {number % 4}" for number in range(len(rows))]
    table = pl.DataFrame(rows).with_columns(publisher=pl.Series(publishers))
    table.write_parquet(tmp_path / "corpus.parquet")
    second = """
        [[tasks.publisher.data]]
        path = "corpus.parquet"
        labels_column = "publisher"
        validation_share = 0.25
        """
    config_file.write_text(config_file.read_text(encoding="utf-8") + second, encoding="utf-8")
    return config_file


def run_of(config: Path, *overrides: str) -> TrainingRun:
    """The config with overrides."""
    return load_config(config, overrides)


def gradients(encoder: Path, *, reversal: float) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Gradients of the encoder and of the head, of one loss."""
    torch.manual_seed(0)
    loaded = load_encoder(str(encoder), markers=False)
    head = MeanHead(loaded.model.config.hidden_size, 3)
    head.reversal = reversal
    model = MultiTaskModel(loaded.model, {"topics": head}).train()
    loaded.model.eval()  # without dropout, so that both runs are the same
    ids = torch.arange(5, 25).reshape(2, 10)
    (logits,) = model(ids, torch.ones_like(ids), ("topics",))
    logits.square().sum().backward()
    of_encoder, of_head = (
        {name: one.grad for name, one in part.named_parameters() if one.grad is not None}
        for part in (model.encoder, head)
    )
    return of_encoder, of_head


def test_the_gradient_reaches_the_encoder_turned_around(encoder: Path) -> None:
    """The head learns as it would without; the encoder learns the opposite, with the weight."""
    plain, plain_head = gradients(encoder, reversal=0.0)
    turned, turned_head = gradients(encoder, reversal=0.5)

    assert plain.keys() == turned.keys()
    for name, gradient in plain.items():
        assert torch.allclose(turned[name], -0.5 * gradient, atol=1e-6), name
    for name, gradient in plain_head.items():
        assert torch.equal(turned_head[name], gradient), name


def test_a_reversed_task_does_not_pick_the_epoch(two_tasks: Path, tmp_path: Path) -> None:
    """The metric of an epoch is that of the other task; both are in the checkpoint."""
    files = train(run_of(two_tasks, f"{ADVERSARY}=0.5"), tmp_path / "out")
    epochs = json.loads(files.history.read_text(encoding="utf-8"))["epochs"]

    for epoch in epochs:
        of_topics = epoch["validation"]["topics"]
        assert epoch["metric"] == pytest.approx((of_topics["micro_f1"] + of_topics["macro_f1"]) / 2)
    assert set(Checkpoint.open(files.folder).info.tasks) == {"topics", "publisher"}


def test_the_encoder_needs_a_task_that_is_not_reversed(two_tasks: Path, tmp_path: Path) -> None:
    """Otherwise it would be trained for nothing."""
    run = run_of(two_tasks, f"{ADVERSARY}=1.0", "tasks.topics.reversal=1.0")

    with pytest.raises(ConfigError, match="no task is left that the encoder is trained for"):
        train(run, tmp_path / "out")


def test_a_task_that_is_not_trained_cannot_be_reversed(two_tasks: Path, tmp_path: Path) -> None:
    """The message names its key."""
    run = run_of(two_tasks, f"{ADVERSARY}=1.0", f"tasks.publisher.kind={NearestKind.NAME}")

    with pytest.raises(ConfigError, match=r"tasks\.publisher\.reversal: has no effect"):
        train(run, tmp_path / "out")


def test_one_task_may_pick_the_epoch(two_tasks: Path, tmp_path: Path) -> None:
    """The metric of an epoch is that of the named task alone."""
    files = train(run_of(two_tasks, 'train.metric_tasks=["publisher"]'), tmp_path / "out")

    for epoch in read_history(files.history).epochs:
        picking = epoch.validation["publisher"]
        assert epoch.metric == pytest.approx((picking.micro_f1 + picking.macro_f1) / 2)


@pytest.mark.parametrize(
    ("override", "name", "reason"),
    [
        ("seed=1", "sentiment", "does not exist"),
        (f"{ADVERSARY}=1.0", "publisher", "is reversed"),
        (f"tasks.publisher.kind={NearestKind.NAME}", "publisher", "is not trained"),
    ],
)
def test_tasks_that_cannot_pick_the_epoch_are_refused(
    two_tasks: Path, tmp_path: Path, override: str, name: str, reason: str
) -> None:
    """The message says why, and the hint names those that can."""
    run = run_of(two_tasks, f'train.metric_tasks=["topics", "{name}"]', override)

    with pytest.raises(ConfigError, match=f"'{name}' cannot pick the epoch: it {reason}") as caught:
        train(run, tmp_path / "out")
    assert caught.value.hint is not None
    assert "'topics'" in caught.value.hint


def test_a_task_picks_the_epoch_once(two_tasks: Path) -> None:
    """Named twice it would count twice, and the standard error would be too small."""
    with pytest.raises(UsageError, match=r"train\.metric_tasks: names a task twice"):
        run_of(two_tasks, 'train.metric_tasks=["topics", "topics"]')
