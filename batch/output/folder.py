"""Output folder: its lock, the run it belongs to, and which chunks are finished."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

import pyarrow as pa
from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, ValidationError

from batch.output.identity import RunKey, differences, without_fingerprints
from batch.output.marker import ChunkAddress, Marker
from batch.output.parts import part_name, write_part
from batch.report.stats import RunStats
from schemas.errors import LockedError, OutputError, listing
from schemas.io.files import FileFacts, atomic_path, remedy, write_atomic
from schemas.io.json_values import parse_json
from schemas.validation import validation_problems

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

    chunks: of the whole corpus; part names have as many digits as the last one needs.
    is_shard: the folder holds a part of a corpus, which `shard.json` in place of `run.json` says;
    it gets no report.
    """

    def __init__(self, folder: Path, *, chunks: int, is_shard: bool = False) -> None:
        self.folder = folder
        self._chunks = chunks
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
        self._discarding_file = self._work / "discarding"
        self.journal = self._work / "hashes.jsonl"

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
            if overwrite or self._discarding_file.exists():
                self._discard()
            self._refuse_lost_key()
            for folder in (self.predictions, self.quarantine, self._scratch, self._markers):
                folder.mkdir(exist_ok=True)
            self._clean()
            yield stale
        finally:
            self._owner_file.unlink(missing_ok=True)
            shutil.rmtree(self._scratch, ignore_errors=True)
            lock.release()

    def refuse_other_run(self, key: RunKey) -> None:
        """Refuse the folder of another run before the content of any input is hashed.

        Raises OutputError that names each part of the key that differs but for fingerprints.
        """
        if self._key_file.exists():
            self._compare(without_fingerprints(self._recorded_key()), without_fingerprints(key))

    def claim(self, key: RunKey) -> None:
        """Record which run this folder belongs to, or compare with what is recorded.

        Raises OutputError that names each part of the key that differs, the order included.
        """
        if not self._key_file.exists():
            self.write(self._key_file, json.dumps(key, indent=1))
            return
        try:
            self._compare(self._recorded_key(), key)
        except OutputError:
            self.journal.unlink(missing_ok=True)  # it is of the run that is refused
            raise

    def _recorded_key(self) -> object:
        try:
            return parse_json(self._key_file.read_bytes())
        except (OSError, ValueError) as error:
            raise OutputError(
                f"{self._key_file}: is damaged: {error}",
                hint="start again with --overwrite, or name another --output",
            ) from error

    def _compare(self, recorded: object, current: object) -> None:
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
            recorded = parse_json(self._published_file.read_bytes())
            return bool(recorded == self._last_hashes(self.last_file.read_bytes()))
        except (OSError, ValueError, KeyError):
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
        """Marker of a finished chunk.

        Raises OSError if there is none, and ValueError if it is damaged or of another chunk.
        """
        try:
            marker = Marker.model_validate_json(self._marker_path(index).read_bytes())
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

    def refuse_strays(self, indices: Collection[int]) -> None:
        """Refuse files among the parts that are not of these chunks: readers would count them.

        Raises OutputError that names them. They may be somebody's work, so nothing is removed.
        """
        expected = {self.part_name(index) for index in indices}
        self._refuse_others(self.predictions, expected)
        self._refuse_others(self.quarantine, expected)

    def refuse_other_outputs(self, outputs: Collection[str]) -> None:
        """Refuse a finished folder whose parts are not exactly `outputs`, relative paths.

        Raises OutputError.
        """
        for folder in (self.predictions, self.quarantine):
            names = {Path(name).name for name in outputs if Path(name).parent.name == folder.name}
            self._refuse_others(folder, names)

    def publish_chunk(
        self, chunk: ChunkAddress, part: pa.Table, quarantine: pa.Table | None, stats: RunStats
    ) -> None:
        """Write part, quarantine and then the marker; each appears whole or not at all."""
        name = self.part_name(chunk.index)
        part_path, quarantine_path = self.predictions / name, self.quarantine / name
        write_part(part, part_path, scratch=self._scratch)
        if quarantine is not None:
            write_part(quarantine, quarantine_path, scratch=self._scratch)
        marker = Marker(
            chunk=chunk,
            part=FileFacts.of(part_path),
            quarantine=FileFacts.of(quarantine_path) if quarantine is not None else None,
            stats=stats.to_json(),
        )
        self.write(self._marker_path(chunk.index), marker.sealed().model_dump_json())

    def adopt_chunk(self, marker: Marker, other: OutputFolder) -> None:
        """Copy a finished chunk of another folder: part, quarantine, and then the marker.

        Raises OutputError if its files are not what its marker says, or cannot be copied.
        """
        index = marker.chunk.index
        try:
            self._adopt(other.predictions, self.predictions, index, marker.part)
            if marker.quarantine is not None:
                self._adopt(other.quarantine, self.quarantine, index, marker.quarantine)
        except OSError as error:
            raise OutputError(
                f"{other.folder}: chunk {index} cannot be copied: {error}",
                hint=f"{remedy(error)}, or run the command of this shard again; then merge again",
            ) from error
        self.write(self._marker_path(index), marker.model_dump_json())

    def write(self, path: Path, text: str) -> None:
        """Write a small file whole or not at all. Raises OutputError with the system's reason."""
        try:
            write_atomic(path, text)
        except OSError as error:
            raise OutputError(
                f"{path}: cannot be written: {error}",
                hint=f"{remedy(error)}, then run the same command again: it resumes",
            ) from error

    def _last_hashes(self, raw: bytes) -> dict[str, str]:
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

    def _marker_path(self, index: int) -> Path:
        return self._markers / f"{index:05d}.json"

    def _adopt(self, source: Path, target: Path, index: int, facts: FileFacts) -> None:
        name = self.part_name(index)
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

    def _refuse_lost_key(self) -> None:
        """Refuse a folder with parts and no record of their run: they are not thrown away."""
        if self._key_file.exists():
            return
        for folder in (self._markers, self.predictions, self.quarantine):
            if folder.exists() and any(folder.iterdir()):
                raise OutputError(
                    f"{self.folder}: {self._key_file.name}, which says of which run its parts are, "
                    "is lost",
                    hint="discard them with --overwrite, or name another --output",
                )

    def _refuse_others(self, folder: Path, expected: Collection[str]) -> None:
        """Refuse what a reader of `folder/*.parquet`, or of the whole folder, would take along."""
        strays = sorted(
            path.name
            for path in folder.iterdir()
            if path.name not in expected
            and (path.suffix == ".parquet" or not path.name.startswith("."))
        )
        if strays:
            raise OutputError(
                f"{folder}: holds files that this run did not write: {listing(strays)}",
                hint="readers would count them: move them away, then run the same command again",
            )

    def _discard(self) -> None:
        """Discard an earlier run; only files that narrascan writes are removed.

        The first thing written and the last removed says so: a discard that was killed is finished
        by the next run.
        """
        self.write(self._discarding_file, "")
        for name in (RUN_FILE, SHARD_FILE, *REPORTS):
            (self.folder / name).unlink(missing_ok=True)
        shutil.rmtree(self._markers, ignore_errors=True)
        for folder in (self.predictions, self.quarantine):
            for path in folder.glob("part-*.parquet"):
                path.unlink()
        for path in (self._published_file, self._key_file, self._discarding_file):
            path.unlink(missing_ok=True)

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
