"""Output folder of a run: its paths and its markers; `batch.output.locked` writes it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from pydantic import ValidationError

from batch.output.marker import ChunkAddress, Marker
from batch.output.parts import part_name
from schemas.io.files import FileFacts
from schemas.io.json_values import parse_json
from schemas.validation import validation_problems

REPORTS = ("report.json", "report.html")
SHARD_FILE = "shard.json"
RUN_FILE = "run.json"


class OutputFolder:
    """Paths of a run and its markers, to be read.

    chunks: of the whole corpus; part names have as many digits as the last one needs.
    is_shard: the folder has the results of a shard: `shard.json` in place of `run.json`, and no
    report.
    last_file: is written when everything else is.
    """

    def __init__(self, folder: Path, *, chunks: int, is_shard: bool = False) -> None:
        self.folder = folder
        self._chunks, self._is_shard = chunks, is_shard
        self.predictions = folder / "predictions"
        self.quarantine = folder / "quarantine"
        self.last_file = folder / (SHARD_FILE if is_shard else RUN_FILE)
        self._reports = () if is_shard else REPORTS
        self.work = folder / ".narrascan"
        self.scratch = self.work / "scratch"
        self.markers_folder = self.work / "done"
        self.published_file = self.work / "published.json"
        self.key_file = self.work / "key.json"
        self.owner_file = self.work / "owner.json"
        self.discarding_file = self.work / "discarding"
        self.journal = self.work / "hashes.jsonl"

    def is_published(self) -> bool:
        """True if the run's last files are there, and are what was written."""
        try:
            recorded = parse_json(self.published_file.read_bytes())
            return bool(recorded == self.last_hashes(self.last_file.read_bytes()))
        except (OSError, ValueError, KeyError):
            return False

    def markers(self) -> list[int]:
        """Index of every chunk that has a marker, ascending."""
        names = (path.stem for path in self.markers_folder.glob("*.json"))
        return sorted(int(name) for name in names if name.isdecimal())

    def marker(self, index: int) -> Marker:
        """Marker of a finished chunk.

        Raises OSError if there is none, and ValueError if it is damaged or of another chunk.
        """
        try:
            marker = Marker.model_validate_json(self.marker_path(index).read_bytes())
        except ValidationError as error:
            raise ValueError(f"it is damaged: {validation_problems(error, 'marker')}") from error
        if marker.sha256 != marker.digest():
            raise ValueError("it is not what was written: its sha256 differs")
        if marker.chunk.index != index:
            raise ValueError(f"it is the marker of chunk {marker.chunk.index}")
        return marker

    def is_finished(self, chunk: ChunkAddress) -> bool:
        """True if the chunk has a marker of the same run, file and rows, and its files fit it."""
        try:
            marker = self.marker(chunk.index)
            name = self.part_name(chunk.index)
            return (
                marker.chunk == chunk
                and FileFacts.of(self.predictions / name) == marker.part
                and (
                    marker.quarantine is None
                    or FileFacts.of(self.quarantine / name) == marker.quarantine
                )
            )
        except (OSError, ValueError):
            return False

    def part_name(self, index: int) -> str:
        """File name of the part of a chunk."""
        return part_name(index, chunks=self._chunks)

    def last_hashes(self, raw: bytes) -> dict[str, str]:
        """sha256 of the last files by name, without `timings`, the part that may differ.

        raw: content of the very last, a JSON object.
        """
        record = parse_json(raw)
        if not isinstance(record, dict):
            raise ValueError(f"{self.last_file}: is not a JSON object")
        del record["timings"]
        content = json.dumps(record, sort_keys=True).encode()
        return {
            self.last_file.name: hashlib.sha256(content).hexdigest(),
            **{name: FileFacts.of(self.folder / name).sha256 for name in self._reports},
        }

    def marker_path(self, index: int) -> Path:
        """Path of the marker of a chunk."""
        return self.markers_folder / f"{index:05d}.json"
