"""The output folder: who holds it, which run it belongs to, which chunks are finished."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

import pyarrow as pa
from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, ValidationError

from batch.corpus.plan import Chunk
from batch.output.marker import Marker
from batch.output.parts import part_name, write_part
from batch.stats import RunStats
from schemas.errors import LockedError, OutputError
from schemas.files import FileFacts, atomic_path, write_atomic

REPORTS = ("report.json", "report.html")
SHARD_FILE = "shard.json"
RUN_FILE = "run.json"


class Owner(BaseModel):
    """Which process holds a folder."""

    model_config = ConfigDict(frozen=True)

    host: str
    pid: int
    since: str

    @classmethod
    def this_process(cls) -> Self:
        """The process that asks."""
        since = datetime.now(UTC).isoformat(timespec="seconds")
        return cls(host=socket.gethostname(), pid=os.getpid(), since=since)

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, since {self.since}"


class OutputFolder:
    """Paths of a run, its lock, its key and its markers.

    is_shard: it holds a part of a corpus, which is told by `shard.json` in place of `run.json`; it
    gets no report.
    """

    def __init__(self, folder: Path, *, is_shard: bool = False) -> None:
        self.folder = folder
        self.predictions = folder / "predictions"
        self.quarantine = folder / "quarantine"
        self.last_file = folder / (SHARD_FILE if is_shard else RUN_FILE)
        self._reports = () if is_shard else REPORTS
        self._work = folder / ".narrascan"
        self._scratch = self._work / "scratch"
        self._markers = self._work / "done"
        self._published_file = self._work / "published.json"
        self._key_file = self._work / "key.json"
        self._owner_file = self._work / "owner.json"

    @contextmanager
    def held(self, *, overwrite: bool) -> Iterator[Owner | None]:
        """Hold the folder while the block runs; other runs are turned away.

        The lock is the operating system's and dies with its owner. Yields the owner that ended
        without letting go of it, if there is one: a run that was killed.
        Raises LockedError, or OutputError if the folder holds something else or cannot be made.
        """
        self._refuse_foreign()
        try:
            self._work.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self._work / "lock", timeout=0)
            lock.acquire()
        except Timeout:
            owner = self._owner()
            raise LockedError(
                f"{self.folder}: another run holds this folder{f' ({owner})' if owner else ''}",
                hint="wait for it, or name another --output",
            ) from None
        except OSError as error:
            raise OutputError(
                f"{self.folder}: cannot be used for output: {error}", hint="name another --output"
            ) from error
        try:
            stale = self._owner()
            self.write(self._owner_file, Owner.this_process().model_dump_json())
            if overwrite or not self._key_file.exists():  # without a key, whose parts are these?
                self._clear()
            for folder in (self.predictions, self.quarantine, self._scratch, self._markers):
                folder.mkdir(exist_ok=True)
            self._clean()
            yield stale
        finally:
            self._owner_file.unlink(missing_ok=True)
            shutil.rmtree(self._scratch, ignore_errors=True)
            lock.release()

    def claim(self, key: Mapping[str, object]) -> None:
        """Record which run this folder belongs to, or compare with what is recorded.

        Raises OutputError that names each part of the key that differs.
        """
        if not self._key_file.exists():
            self.write(self._key_file, json.dumps(key, indent=1, sort_keys=True))
            return
        try:
            recorded = json.loads(self._key_file.read_bytes())
        except (ValueError, RecursionError) as error:
            raise OutputError(
                f"{self._key_file}: is damaged: {error}",
                hint="start anew with --overwrite, or name another --output",
            ) from error
        current = json.loads(json.dumps(key))
        changes = list(differences(recorded, current))
        if changes:
            lines = "\n".join(f"  {change}" for change in changes)
            raise OutputError(
                f"{self.folder}: holds another run; what differs:\n{lines}",
                hint="name another --output, or discard that run with --overwrite",
            )

    def is_published(self) -> bool:
        """True if the run's last files are there, and are what was written."""
        try:
            recorded = json.loads(self._published_file.read_bytes())
            return bool(recorded == self._last_hashes(self.last_file.read_bytes()))
        except (OSError, ValueError, KeyError, RecursionError):
            return False

    def finish(self, text: str) -> None:
        """Write what the run's last files are, and then the very last. Raises OutputError."""
        self.write(self._published_file, json.dumps(self._last_hashes(text.encode()), indent=1))
        self.write(self.last_file, text)

    def markers(self) -> list[int]:
        """Index of every chunk that has a marker, ascending."""
        names = (path.stem for path in self._markers.glob("*.json"))
        return sorted(int(name) for name in names if name.isdecimal())

    def marker(self, index: int) -> Marker:
        """What was recorded of a finished chunk.

        Raises OSError if nothing was, and ValueError if it is damaged or of another chunk.
        """
        marker = Marker.model_validate_json(self._marker_path(index).read_bytes())
        if marker.sha256 != marker.digest():
            raise ValueError("it is not what was written: its sha256 differs")
        if marker.index != index:
            raise ValueError(f"it is the marker of chunk {marker.index}")
        return marker

    def is_finished(self, index: int) -> bool:
        """True if the chunk has a marker, and its files are there and are what the marker says."""
        try:
            marker = self.marker(index)
            return FileFacts.of(self.predictions / part_name(index)) == marker.part and (
                marker.quarantine is None
                or FileFacts.of(self.quarantine / part_name(index)) == marker.quarantine
            )
        except (OSError, ValueError):
            return False

    def publish_chunk(
        self,
        chunk: Chunk,
        part: pa.Table,
        quarantine: pa.Table | None,
        stats: RunStats,
        *,
        source: str,
    ) -> None:
        """Write part, quarantine and then the marker; each appears whole or not at all."""
        part_path = self.predictions / part_name(chunk.index)
        write_part(part, part_path, scratch=self._scratch)
        quarantine_path = self.quarantine / part_name(chunk.index)
        if quarantine is not None:
            write_part(quarantine, quarantine_path, scratch=self._scratch)
        marker = Marker(
            index=chunk.index,
            source_file=source,
            first_row=chunk.first_row,
            rows=chunk.rows,
            part=FileFacts.of(part_path),
            quarantine=FileFacts.of(quarantine_path) if quarantine is not None else None,
            stats=stats.to_json(),
        )
        self.write(self._marker_path(chunk.index), marker.sealed().model_dump_json())

    def adopt_chunk(self, index: int, other: OutputFolder) -> None:
        """Copy a finished chunk of another folder: part, quarantine, and then the marker.

        Raises OutputError if its files are not what its marker says, or cannot be copied.
        """
        marker_path = other._marker_path(index)
        try:
            marker = other.marker(index)
            self._adopt(other.predictions, self.predictions, index, marker.part)
            if marker.quarantine is not None:
                self._adopt(other.quarantine, self.quarantine, index, marker.quarantine)
        except ValueError as error:
            raise OutputError(
                f"{marker_path}: is damaged: {error}", hint="run the command of this shard again"
            ) from error
        except OSError as error:
            raise OutputError(
                f"{other.folder}: chunk {index} cannot be copied: {error}",
                hint="make room, or run the command of this shard again; then merge again",
            ) from error
        self.write(self._marker_path(index), marker.model_dump_json())

    def write(self, path: Path, text: str) -> None:
        """Write a small file whole or not at all. Raises OutputError if the disk is full."""
        try:
            write_atomic(path, text)
        except OSError as error:
            raise OutputError(
                f"{path}: cannot be written: {error}",
                hint="make room, then run the same command again: it resumes",
            ) from error

    def _last_hashes(self, raw: bytes) -> dict[str, str]:
        """sha256 of the last files by name, without `timings`, the part that may differ.

        raw: content of the very last, a JSON object.
        """
        record = json.loads(raw)
        if not isinstance(record, dict):
            raise ValueError(f"{self.last_file}: is no JSON object")
        del record["timings"]
        content = json.dumps(record, sort_keys=True).encode()
        return {
            self.last_file.name: hashlib.sha256(content).hexdigest(),
            **{name: FileFacts.of(self.folder / name).sha256 for name in self._reports},
        }

    def _marker_path(self, index: int) -> Path:
        return self._markers / f"{index:05d}.json"

    def _adopt(self, source: Path, target: Path, index: int, facts: FileFacts) -> None:
        name = part_name(index)
        with atomic_path(target / name, scratch=self._scratch) as temporary:
            shutil.copyfile(source / name, temporary)
            if FileFacts.of(temporary) != facts:
                raise OutputError(
                    f"{source / name}: is not what its marker says",
                    hint="run the command of this shard again, then merge again",
                )

    def _refuse_foreign(self) -> None:
        if self.folder.is_file():
            raise OutputError(f"{self.folder}: is a file, not a folder", hint="name a folder")
        if self._work.exists() or not self.folder.exists() or not any(self.folder.iterdir()):
            return
        raise OutputError(
            f"{self.folder}: holds files that are not of a narrascan run",
            hint="name an empty or a new folder with --output",
        )

    def _clear(self) -> None:
        """Discard an earlier run; only files that narrascan writes are removed."""
        self._key_file.unlink(missing_ok=True)
        self._published_file.unlink(missing_ok=True)
        for name in (RUN_FILE, SHARD_FILE, *REPORTS):
            (self.folder / name).unlink(missing_ok=True)
        for folder in (self._markers, self.predictions, self.quarantine):
            if folder.exists():
                shutil.rmtree(folder)

    def _clean(self) -> None:
        """Remove what a killed run left half-written."""
        shutil.rmtree(self._scratch, ignore_errors=True)
        self._scratch.mkdir()
        for folder in (self.folder, self._work, self._markers):
            for leftover in folder.glob(".*.tmp"):
                leftover.unlink()

    def _owner(self) -> Owner | None:
        try:
            return Owner.model_validate_json(self._owner_file.read_bytes())
        except (OSError, ValidationError):
            return None


def differences(recorded: object, current: object, name: str = "") -> Iterator[str]:
    """Where two keys differ, one line each."""
    if isinstance(recorded, dict) and isinstance(current, dict):
        for key in sorted({*recorded, *current}):
            path = f"{name}.{key}" if name else key
            yield from differences(recorded.get(key), current.get(key), path)
    elif recorded != current:
        yield f"{name}: was {_short(recorded)}, is {_short(current)}"


def _short(value: object) -> str:
    text = "not there" if value is None else str(value)
    return text if len(text) <= 60 else text[:57] + "..."
