"""Marker of a finished chunk: which rows of which run it stands for, and what its files are."""

from __future__ import annotations

import hashlib

from pydantic import BaseModel, ConfigDict

from batch.report.stats import RunStats
from schemas.io.files import FileFacts


class ChunkAddress(BaseModel):
    """The rows that a chunk stands for.

    run_sha256: digest of the run's key (`batch.output.identity.RunIdentity`).
    source_fingerprint: of the content of the file that the rows come from.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    run_sha256: str
    index: int
    source_file: str
    source_fingerprint: str
    first_row: int
    rows: int


class Marker(BaseModel):
    """Says that a chunk is finished, and what to expect of its files. Written last.

    The same chunk gives the same marker to the byte, so it contains no times.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    chunk: ChunkAddress
    part: FileFacts
    quarantine: FileFacts | None
    stats: dict[str, object]
    sha256: str = ""
    """Over all the rest, so that a damaged marker does not count; empty until it is sealed."""

    def sealed(self) -> Marker:
        """The same with its own hash."""
        return self.model_copy(update={"sha256": self.digest()})

    def digest(self) -> str:
        """sha256 over everything else."""
        rest = self.model_dump_json(exclude={"sha256"})
        return hashlib.sha256(rest.encode()).hexdigest()

    def run_stats(self) -> RunStats:
        """The chunk's statistics."""
        return RunStats.from_json(dict(self.stats))
