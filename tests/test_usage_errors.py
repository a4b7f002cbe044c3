"""A wrong option of any command ends with exit 2, before anything is read or written."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from batch.cli import main as batch_classify
from exporter.cli import main as export_classifier
from trainer.cli import main as train_classifier

SAMPLES = Path(__file__).parents[1] / "samples"
CONFIG, ARTICLES = str(SAMPLES / "newsroom.toml"), str(SAMPLES / "articles.parquet")


@pytest.mark.parametrize(
    ("command", "arguments", "message"),
    [
        (train_classifier, [CONFIG, "--epochs", "3"], "No such option"),
        (train_classifier, ["no.toml"], "'no.toml' does not exist"),
        (train_classifier, [CONFIG, "--output", ""], "an empty name is not a path"),
        (train_classifier, [CONFIG, "--output", "s3://b/c"], "--output"),
        (train_classifier, [CONFIG, "--set", "train.epochs"], "expected key=value"),
        (train_classifier, [CONFIG, "--set", "train.epochs=0"], "train.epochs: Input should be"),
        (train_classifier, [CONFIG, "--set", "trian.epochs=1"], "did you mean 'train'?"),
        (train_classifier, [CONFIG, "--set", "tasks.narrative.kind=x"], "tasks.narrative.kind"),
        (train_classifier, ["cross-validate", CONFIG, "--folds", "1"], "--folds"),
        (train_classifier, ["search", CONFIG, "--space", "train.epochs=3"], "--space"),
        (train_classifier, ["search", CONFIG, "--space", "train.epochs=0,1"], "--space"),
        (export_classifier, [str(SAMPLES), "--preciison", "bf16"], "No such option"),
        (export_classifier, ["no-checkpoint"], "'no-checkpoint' does not exist"),
        (export_classifier, [str(SAMPLES), "--output", " "], "an empty name is not a path"),
        (export_classifier, [str(SAMPLES), "--precision", "bf61"], "unknown 'bf61'"),
        (batch_classify, [ARTICLES, "--task", "a", "--tsak", "b"], "No such option"),
        (batch_classify, [ARTICLES], "Missing option '--task'"),
        (batch_classify, [ARTICLES, "--task", "a", "--output", ""], "an empty name is not a path"),
        (batch_classify, [ARTICLES, "--task", "a", "--shard", "3/2"], "--shard"),
        (batch_classify, ["merge", ARTICLES, "--output", "s3://b/c"], "--output"),
    ],
)
def test_a_wrong_option_exits_2(
    command: click.Command,
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The message names the option or the key, and nothing is written."""
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(command, arguments)

    assert result.exit_code == 2, result.output
    assert message in result.output
    assert "Traceback" not in result.output
    assert not list(tmp_path.iterdir())


def test_a_wrong_config_file_exits_1(tmp_path: Path) -> None:
    """The mistake is in the file, not in the command, even if --set replaces other values."""
    config = tmp_path / "wrong.toml"
    config.write_text("[train]\nepochs = 0\n[tasks.a]\n[[tasks.a.data]]\npath = 'a'\n")
    result = CliRunner().invoke(train_classifier, [str(config), "--set", "seed=3"])

    assert result.exit_code == 1
    assert "train.epochs: Input should be" in result.output
