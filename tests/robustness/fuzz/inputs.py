"""Paths of the valid inputs that fuzzing cases start from.

Light on imports: every worker process loads it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class FuzzInputs:
    """Folder of valid inputs, which no case changes.

    Holds a signed bundle, its public key, corpora in several encodings, and the output folders of
    a finished run, of two shards of it, and of a run with a cache.
    """

    folder: Path

    @property
    def bundle(self) -> Path:
        return self.folder / "bundle"

    @property
    def private_key(self) -> Path:
        return self.folder / "key"

    @property
    def public_key(self) -> Path:
        return self.folder / "key.pub"

    @property
    def corpora(self) -> list[Path]:
        return sorted((self.folder / "corpora").glob("*.parquet"))

    @property
    def corpus(self) -> Path:
        """The corpus that the finished runs scored."""
        return self.corpora[0]

    @property
    def finished(self) -> Path:
        return self.folder / "finished"

    @property
    def finished_pair(self) -> Path:
        """Output folder of a finished run over the first two corpora."""
        return self.folder / "finished-pair"

    @property
    def shards(self) -> list[Path]:
        return [self.folder / "shard-1", self.folder / "shard-2"]

    @property
    def cache(self) -> Path:
        return self.folder / "cache"

    def arguments(self, *corpus: Path | str) -> tuple[str, ...]:
        """Arguments of `batch-classify` without an output folder, with several small chunks."""
        arguments = (*map(str, corpus), "--bundle", str(self.bundle), "--device", "cpu")
        return (*arguments, "--threads", "1", "--chunk-rows", "5")
