"""What tests of the exporter share."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest
from click.testing import CliRunner

from exporter.bundle.export import export_checkpoint
from tests.tiny import write_config
from trainer.cli import main as train_classifier

MakeOnce: TypeAlias = Callable[[str, Callable[[Path], object]], Path]


@pytest.fixture
def ours(checkpoint: Path, tmp_path: Path) -> Path:
    """A copy of the shared checkpoint that a test may change."""
    return Path(shutil.copytree(checkpoint, tmp_path / "checkpoint"))


@pytest.fixture(scope="session")
def trained_alone(make_once: MakeOnce, encoder: Path) -> Path:
    """A checkpoint of the task narrative alone, exported in half the time."""

    def make(folder: Path) -> None:
        config = write_config(folder / "config.toml", encoder, epochs=1)
        config.write_text(config.read_text().partition("[tasks.entity_framing]")[0])
        words = [str(config), "--output", str(folder / "checkpoint")]
        result = CliRunner().invoke(train_classifier, words)
        assert result.exit_code == 0, result.output

    return make_once("alone", make) / "checkpoint"


@pytest.fixture(scope="session")
def bundle_alone(make_once: MakeOnce, trained_alone: Path) -> Path:
    """The bundle of `trained_alone` in fp32."""

    def make(folder: Path) -> None:
        export_checkpoint(trained_alone, folder / "bundle", precisions=["fp32"])

    return make_once("exported-alone", make) / "bundle"


@pytest.fixture
def ours_alone(trained_alone: Path, tmp_path: Path) -> Path:
    """A copy of it that a test may change."""
    return Path(shutil.copytree(trained_alone, tmp_path / "checkpoint"))
