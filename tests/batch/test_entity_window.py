"""What `entity_tokens` promises: the same window around an entity in training and in scoring."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from batch.cli import main as batch_classify
from exporter.bundle.inspection import BundleReport
from exporter.cli import main as export_classifier
from tests.tiny import SAMPLES, TRAIN_FILE, sample_rows, write_config
from trainer.cli import main as train_classifier

WINDOW = 24


def run(command: Any, *words: object) -> Result:
    """Call a command line, and expect exit 0."""
    result = CliRunner().invoke(command, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    return result


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory, encoder: Path) -> Path:
    """The bundle of a task that reads a window of 24 tokens, beside one that reads 128."""
    folder = tmp_path_factory.mktemp("window")
    config = write_config(folder / "config.toml", encoder, epochs=1)
    sample_rows("train").gather_every(6).write_parquet(folder / TRAIN_FILE)
    marked = "entity_markers = true\n"
    text = config.read_text().replace(marked, f"{marked}entity_tokens = {WINDOW}\n")
    config.write_text(text)
    run(train_classifier, config, "--output", folder / "checkpoint")
    words = ("--output", folder / "bundle", "--precision", "fp32")
    run(export_classifier, folder / "checkpoint", *words)
    return folder / "bundle"


def test_scoring_reads_the_window_of_training(narrow: Path, tmp_path: Path) -> None:
    """The file says how long the window is, and no row has more tokens; another task reads on."""
    described = BundleReport.of(narrow).tasks
    longest = {}
    for task in described:
        output = tmp_path / task
        words = ("--task", task, "--bundle", narrow, "--device", "cpu", "--output", output)
        run(batch_classify, SAMPLES / "articles.parquet", *words)
        overall = json.loads((output / "report.json").read_text())["overall"]
        longest[task] = overall["tokens_mean"]
        assert overall["truncated"] > 0

    assert described["entity_framing"].text.entity_tokens == WINDOW
    assert longest["entity_framing"] == WINDOW
    assert longest["narrative"] > WINDOW
