"""Client of the processes of `bench.scoring.backend`, which take turns on the same texts."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import click
import pyarrow.parquet as pq

from batch.scoring.runner import load_tokenizer
from schemas.bundle.folder import Bundle
from schemas.bundle.variants import DeviceKind
from schemas.text.model_text import ModelText
from schemas.text.tokens import TextTokenizer


@dataclass(frozen=True)
class Corpus:
    """A Parquet file of texts. lengths: tokens of every text, truncated as by the model."""

    name: str
    path: Path
    lengths: tuple[int, ...]

    @classmethod
    def read(cls, name: str, path: Path, bundle: Path, *, max_tokens: int) -> Self:
        """Tokenize the column `text` of a file with the tokenizer of a bundle."""
        content = Bundle.open(bundle).read_tokenizer()
        tokenizer = TextTokenizer(load_tokenizer(content, str(bundle)), max_tokens=max_tokens)
        texts = pq.read_table(path, columns=["text"])["text"].to_pylist()
        encoded = tokenizer.encode([ModelText(text, cut=False) for text in texts])
        return cls(name, path, tuple(len(text.ids) for text in encoded))


class BackendProcess:
    """A process of `bench.scoring.backend` that waits for texts. name: of the backend."""

    def __init__(self, name: str, model: Path, task: str, *, device: DeviceKind = "cpu") -> None:
        self.name = name
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.scoring.backend", name, str(model), task, device],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._read_line()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._process.kill()
        self._process.communicate()

    def score(self, corpus: Corpus, rows: int) -> tuple[float, float]:
        """Score the first rows; returns tokens/s and the peak memory of the process in MB."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{corpus.path} {rows}\n")
        self._process.stdin.flush()
        answer = json.loads(self._read_line())
        return sum(corpus.lengths[:rows]) / answer["seconds"], answer["peak_mb"]

    def _read_line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            code = self._process.wait()
            raise click.ClickException(f"backend {self.name} exited with code {code}")
        return line
