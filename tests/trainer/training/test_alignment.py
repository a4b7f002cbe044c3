"""Training of tasks that are decided by nearest texts."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import polars as pl
import pytest
from click.testing import CliRunner
from safetensors.numpy import load_file

from exporter.cli import main as export_classifier
from narrascan import Scorer
from schemas.config.files import load_config
from schemas.config.models import TrainingRun
from schemas.kinds.nearest import Alignment, NearestKind
from schemas.text.model_text import Article
from tests.trainer.conftest import Row
from trainer.checkpoint.reader import Checkpoint
from trainer.model.nearest_head import NearestHead
from trainer.training.loop import train

ALIGNMENTS: tuple[Alignment, ...] = get_args(Alignment)


@pytest.fixture
def aligned(tmp_path: Path, config_file: Path, rows: list[Row]) -> Path:
    """A config with a task that is decided by the nearest texts, one label each."""
    one_label = pl.DataFrame(rows).with_columns(pl.col("labels").list.first())
    one_label.write_parquet(tmp_path / "corpus.parquet")
    text = config_file.read_text(encoding="utf-8")
    options = f"""[tasks.topics]
        kind = "{NearestKind.NAME}"
        neighbours = 3
        decision = {{ one_label = true }}
        [[tasks.topics.data]]"""
    config_file.write_text(text.replace("[[tasks.topics.data]]", options), encoding="utf-8")
    return config_file


def aligned_run(config: Path, alignment: str, *overrides: str) -> TrainingRun:
    """The config with an alignment."""
    return load_config(config, [f"tasks.topics.alignment={alignment}", *overrides])


@pytest.mark.parametrize("alignment", ALIGNMENTS)
def test_alignment_trains_the_encoder(alignment: str, aligned: Path, tmp_path: Path) -> None:
    """Ten steps bring texts of a topic together; what the loss stored is not in the checkpoint."""
    files = train(aligned_run(aligned, alignment, "train.epochs=4"), tmp_path / "out")
    checkpoint = Checkpoint.open(files.folder)
    head = checkpoint.model.head("topics")

    assert isinstance(head, NearestHead)
    assert head.width == 3
    assert len(head.vectors) > 3
    assert len(head.memory) == 0
    assert checkpoint.info.tasks["topics"].training.loss == f"alignment-{alignment}"
    with_encoder = load_file(files.weights)
    frozen = train(aligned_run(aligned, "none"), tmp_path / "frozen")
    name = next(name for name in with_encoder if name.endswith("layer.0.output.dense.weight"))
    assert (with_encoder[name] != load_file(frozen.weights)[name]).any()


def test_an_aligned_task_is_exported_and_scored(aligned: Path, tmp_path: Path) -> None:
    """The artefact votes by its references, and finds the topic of most training texts."""
    run = aligned_run(aligned, "datapoint_memory", "train.epochs=4")
    files = train(run, tmp_path / "out")
    bundle = tmp_path / "bundle"
    words = [str(files.folder), "--output", str(bundle), "--precision", "fp32"]
    result = CliRunner().invoke(export_classifier, words)
    assert result.exit_code == 0, result.output

    rows = pl.read_parquet(tmp_path / "corpus.parquet")
    scored = Scorer(bundle, task="topics", device="cpu").score(
        [Article(text, title) for text, title in rows.select("text", "title").iter_rows()]
    )
    hits = [
        one.labels == (gold,) for one, gold in zip(scored, rows["labels"].to_list(), strict=True)
    ]

    assert sum(hits) / len(hits) > 0.8


@pytest.mark.parametrize("alignment", ["memory", "datapoint_memory"])
def test_an_interrupted_alignment_remembers(alignment: str, aligned: Path, tmp_path: Path) -> None:
    """What the loss has stored is saved with the state: the same weights as an unbroken run."""
    run = aligned_run(aligned, alignment, "train.epochs=3", "train.save_every_s=0")
    unbroken = train(run, tmp_path / "unbroken")

    def stop(record: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(run, tmp_path / "stopped", on_epoch=stop)
    resumed = train(run, tmp_path / "stopped")

    assert resumed.weights.read_bytes() == unbroken.weights.read_bytes()
