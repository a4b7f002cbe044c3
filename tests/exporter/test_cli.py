"""Options of `export-classifier` that name folders and files."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from exporter.cli import main

COMMANDS = [
    ["export", "HERE", "--output", "s3://bucket/x"],
    ["recalibrate", "HERE", "--task", "t", "--data", "d.parquet", "--output", "file:///tmp/x"],
    ["keygen", "gs://bucket/key"],
]


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: words[0])
def test_url_to_write_to_is_a_usage_error(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A URL ends the command with exit code 2, and no folder or file is made."""
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, [str(tmp_path) if w == "HERE" else w for w in words])

    assert result.exit_code == 2
    assert "URLs cannot be written to" in result.output
    assert list(tmp_path.iterdir()) == []
