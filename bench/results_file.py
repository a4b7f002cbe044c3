"""Records of benchmarks, and the files in `bench/results/` that hold them."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict

from schemas.io.files import write_atomic


class Record(BaseModel):
    """Numbers that are written once."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ResultsFile(Record):
    """A file of records, empty before the first is measured."""

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read the file; empty results if there is none."""
        if not path.exists():
            return cls()
        return cls.model_validate_json(path.read_text(encoding="utf-8"))

    def write(self, path: Path) -> None:
        """Replace the file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, self.model_dump_json(indent=1) + "\n")
