"""A task that reads the beginning and the end of long texts does so from training to scoring."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from click.testing import CliRunner

from exporter.cli import main as export_classifier
from tests.tiny import SAMPLES
from trainer.cli import main as train_classifier

CONFIG = """
[encoder]
source = "{encoder}"
max_tokens = 32
[train]
epoch_steps = 1
epochs = 1
precision = "fp32"
[tasks.narrative]
title = false
truncation = "head_tail"
[[tasks.narrative.data]]
path = "{samples}/train.parquet"
labels_column = "narratives"
"""


@pytest.fixture(scope="module")
def bundle_of_ends(tmp_path_factory: pytest.TempPathFactory, encoder: Path) -> Path:
    """A bundle with one task of 32 tokens."""
    folder = tmp_path_factory.mktemp("ends")
    config, bundle = folder / "config.toml", folder / "bundle"
    config.write_text(CONFIG.format(encoder=encoder, samples=SAMPLES), encoding="utf-8")
    for command, words in (
        (train_classifier, [str(config), "--output", str(folder / "checkpoint")]),
        (
            export_classifier,
            [str(folder / "checkpoint"), "--output", str(bundle), "--precision", "fp32"],
        ),
    ):
        result = CliRunner().invoke(command, words)
        assert result.exit_code == 0, result.output
    return bundle


def test_the_middle_of_a_long_text_is_not_read(
    bundle_of_ends: Path, write: Callable[..., Path], score: Callable[..., pa.Table]
) -> None:
    """Texts with the same ends have the same bits; another end, or another beginning, differs."""
    head, tail = "Aid is wasted by officials. " * 8, " Talks now, or war for ever." * 8
    texts = [
        f"{head}grain{tail}",
        f"{head}{'Sanctions hurt us. ' * 200}{tail}",
        f"{head}grain{head}",
        f"{tail}grain{tail}",
    ]
    scored = score(write({"text": texts}), bundle=bundle_of_ends)
    first, *others = scored.column("probabilities").to_pylist()

    assert [other == first for other in others] == [True, False, False]
    assert scored.column("status").to_pylist() == ["truncated"] * 4
    assert scored.column("tokens").to_pylist() == [32] * 4


def test_verify_and_the_card_know_what_is_read(bundle_of_ends: Path) -> None:
    """Probes that are too long are cut as at export."""
    result = CliRunner().invoke(export_classifier, ["verify", str(bundle_of_ends)])
    card = (bundle_of_ends / "MODEL_CARD.md").read_text(encoding="utf-8")

    assert result.exit_code == 0, result.output
    assert "problem" not in result.output
    assert "of long texts the beginning and the end" in card


def test_ends_and_entity_markers_are_refused_with_the_key(tmp_path: Path, encoder: Path) -> None:
    """Around a marked entity a window is read."""
    config = tmp_path / "config.toml"
    text = CONFIG.format(encoder=encoder, samples=SAMPLES)
    config.write_text(text.replace("title = false", "entity_markers = true"), encoding="utf-8")
    result = CliRunner().invoke(train_classifier, [str(config), "--output", str(tmp_path / "out")])

    assert result.exit_code == 1
    assert "tasks.narrative: truncation 'head_tail' has no effect" in result.output
