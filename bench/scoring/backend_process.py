"""Processes of `bench.scoring.backend` that take turns on the same texts."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import click

from schemas.bundle.variants import DeviceKind


@dataclass(frozen=True)
class Corpus:
    """Texts of one distribution of lengths. lengths: tokens of each, cut as the model does."""

    name: str
    path: Path
    lengths: tuple[int, ...]


class Contender:
    """A process of `bench.scoring.backend` that waits for texts."""

    def __init__(self, way: str, model: Path, task: str, *, device: DeviceKind = "cpu") -> None:
        self.way = way
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.scoring.backend", way, str(model), task, device],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._answer()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._process.kill()
        self._process.communicate()

    def score(self, corpus: Corpus, rows: int) -> tuple[float, float]:
        """Tokens a second on the first rows, and the peak memory of the process in MB."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{corpus.path} {rows}\n")
        self._process.stdin.flush()
        found = json.loads(self._answer())
        return sum(corpus.lengths[:rows]) / found["seconds"], found["peak_mb"]

    def _answer(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise click.ClickException(f"{self.way} ended with {self._process.wait()}")
        return line
