"""What tests of the exporter share."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest


@pytest.fixture
def ours(checkpoint: Path, tmp_path: Path) -> Path:
    """A copy of the shared checkpoint that a test may change."""
    return Path(shutil.copytree(checkpoint, tmp_path / "checkpoint"))
