"""Options of `train-classifier` that name folders."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from trainer.cli import main


@pytest.mark.parametrize("command", ["train", "cross-validate", "search"])
@pytest.mark.parametrize("url", ["s3://bucket/x", "file:///tmp/x"])
def test_url_as_output_is_a_usage_error(
    command: str, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A URL ends the command with exit code 2 before anything is read, and creates no folder."""
    monkeypatch.chdir(tmp_path)
    config = tmp_path / "config.toml"
    config.write_text("not a config")
    words = [command, str(config), "--output", url]
    result = CliRunner().invoke(main, words + ["--space", "seed=1,2"] * (command == "search"))

    assert result.exit_code == 2
    assert "--output" in result.output
    assert "URLs cannot be written to" in result.output
    assert list(tmp_path.iterdir()) == [config]
