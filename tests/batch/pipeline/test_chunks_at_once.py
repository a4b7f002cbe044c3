"""Chunks that are scored at the same time, as on CUDA."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from batch.scoring import runner

Contents = Callable[[Path], dict[str, bytes]]
Score = Callable[..., pa.Table]
Write = Callable[..., Path]


@pytest.mark.parametrize("cached", [False, True])
def test_chunks_scored_at_the_same_time_give_the_same_folder(
    sample: pa.Table,
    write: Write,
    score: Score,
    contents: Contents,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    cached: bool,
) -> None:
    """Parts, counts and report are those of one chunk after the other, with a cache too."""
    options: dict[str, Any] = {"chunk_rows": 5}
    if cached:
        options["cache"] = tmp_path / "cache"
    corpus = write(sample)
    score(corpus, **options, output=tmp_path / "one")
    monkeypatch.setitem(runner.CHUNKS_AT_ONCE, "cpu", 2)
    score(corpus, **options, output=tmp_path / "two")

    assert contents(tmp_path / "two") == contents(tmp_path / "one")
