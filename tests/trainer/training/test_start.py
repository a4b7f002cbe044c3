"""What starting from an earlier checkpoint promises."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import polars as pl
import pytest
from safetensors.numpy import load_file

from schemas.config.models import TrainingRun
from schemas.errors import CheckpointError
from tests.tiny import make_encoder, make_tokenizer
from trainer.training.loop import train

MakeRun: TypeAlias = Callable[..., TrainingRun]

STILL = ("train.epochs=1", "train.learning_rate=1e-12", "train.weight_decay=0.0")
"""A run that hardly moves a weight."""


@pytest.fixture
def earlier(make_run: MakeRun, tmp_path: Path) -> Path:
    """A finished checkpoint."""
    return train(make_run(), tmp_path / "earlier").folder


def test_run_starts_with_the_weights_of_the_other(
    make_run: MakeRun, earlier: Path, tmp_path: Path
) -> None:
    """Encoder and head of a task with the same labels are where the earlier run left them."""
    train(make_run(*STILL, f"encoder.start_from={earlier}"), tmp_path / "later")
    before, after = (
        load_file(folder / "model.safetensors") for folder in (earlier, tmp_path / "later")
    )

    assert before.keys() == after.keys()
    for name, weights in before.items():
        assert after[name] == pytest.approx(weights, abs=1e-6), name


@pytest.mark.parametrize("change", ["labels", "head"])
def test_other_labels_or_another_head_start_again(
    make_run: MakeRun, earlier: Path, tmp_path: Path, corpus: Path, change: str
) -> None:
    """The encoder is taken over, and the head begins with the random weights of a fresh run.

    What depends on the encoder, as its bias does, differs.
    """
    if change == "labels":
        rows = pl.read_parquet(corpus)
        rows = rows.with_columns(pl.col("labels").list.eval(pl.element() + pl.lit("s")))
        rows.write_parquet(corpus)
    overrides = [*STILL, *(["tasks.topics.head=mean"] if change == "head" else [])]
    train(make_run(*overrides, f"encoder.start_from={earlier}"), tmp_path / "later")
    train(make_run(*overrides), tmp_path / "fresh")
    before, after, fresh = (
        load_file(folder / "model.safetensors")
        for folder in (earlier, tmp_path / "later", tmp_path / "fresh")
    )

    for name, weights in after.items():
        if name.startswith("encoder."):
            assert weights == pytest.approx(before[name], abs=1e-6), name
    random = "heads.topics.linear.weight"
    assert after[random] == pytest.approx(fresh[random], abs=1e-6)
    assert after[random] != pytest.approx(before[random][: len(after[random])], abs=1e-3)


def test_another_encoder_is_refused(make_run: MakeRun, earlier: Path, tmp_path: Path) -> None:
    """A checkpoint of an encoder with another tokenizer is an error, not a model of noise."""
    tokenizer = make_tokenizer()
    tokenizer.add_tokens(["newsworthy"])
    other = make_encoder(tmp_path / "other", tokenizer=tokenizer)

    with pytest.raises(CheckpointError, match="tokenizer is not that of the encoder"):
        train(
            make_run(f"encoder.source={other}", f"encoder.start_from={earlier}"), tmp_path / "later"
        )


def test_unfinished_checkpoint_is_refused(make_run: MakeRun, tmp_path: Path) -> None:
    """A folder without a finished run is reported by its name."""
    with pytest.raises(CheckpointError, match=r"nowhere: no finished checkpoint"):
        train(make_run(f"encoder.start_from={tmp_path / 'nowhere'}"), tmp_path / "later")


def test_start_is_part_of_the_config(make_run: MakeRun, earlier: Path, tmp_path: Path) -> None:
    """A run with another start is another run, and the record says which it was."""
    started = train(make_run("train.epochs=1", f"encoder.start_from={earlier}"), tmp_path / "later")
    plain = make_run("train.epochs=1").sha256()

    assert json.loads(started.info.read_text())["config_sha256"] != plain
