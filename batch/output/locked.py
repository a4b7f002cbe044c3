"""Output folder that this process has locked: the only object that can write to it."""

from __future__ import annotations

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

from batch.output.folder import REPORTS, RUN_FILE, SHARD_FILE, OutputFolder
from batch.output.identity import RunKey, differences, without_fingerprints
from batch.output.marker import ChunkAddress, Marker
from batch.output.parts import write_part
from batch.report.stats import RunStats
from schemas.errors import LockedError, OutputError, listing
from schemas.io.files import FileFacts, atomic_path, remedy, write_atomic
from schemas.io.json_values import parse_json


class Owner(BaseModel):
    """Process that has locked a folder."""

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


@contextmanager
def lock_output(
    folder: Path, *, chunks: int, is_shard: bool = False, overwrite: bool
) -> Iterator[LockedOutput]:
    """Lock a folder while the block runs; other runs end with LockedError.

    The lock is the operating system's, and is released when its owner ends, however it ends.
    overwrite: discard an earlier run first. Raises LockedError, or OutputError if the folder has
    other files or cannot be created.
    """
    paths = OutputFolder(folder, chunks=chunks, is_shard=is_shard)
    _refuse_foreign(paths)
    try:
        paths.work.mkdir(parents=True, exist_ok=True)
        lock = FileLock(paths.work / "lock", timeout=0)
        lock.acquire()
    except Timeout:
        owner = _owner(paths)
        raise LockedError(
            f"{folder}: another run has locked this folder{f' ({owner})' if owner else ''}",
            hint="wait for it, or name another --output",
        ) from None
    except OSError as error:
        raise OutputError(
            f"{folder}: cannot be used for output: {error}", hint="name another --output"
        ) from error
    try:
        output = LockedOutput(folder, chunks=chunks, is_shard=is_shard, stale=_owner(paths))
        output.prepare(overwrite=overwrite)
        yield output
    finally:
        paths.owner_file.unlink(missing_ok=True)
        shutil.rmtree(paths.scratch, ignore_errors=True)
        lock.release()


class LockedOutput(OutputFolder):
    """An output folder that no other process writes to.

    stale: the owner that exited without releasing the lock, if there is one: a run that was killed.
    """

    def __init__(
        self, folder: Path, *, chunks: int, is_shard: bool = False, stale: Owner | None = None
    ) -> None:
        super().__init__(folder, chunks=chunks, is_shard=is_shard)
        self.stale = stale

    def prepare(self, *, overwrite: bool) -> None:
        """Record the owner, discard an earlier run if asked, and remove what a killed run left."""
        self.write(self.owner_file, Owner.this_process().model_dump_json())
        if overwrite or self.discarding_file.exists():
            self._discard()
        self._refuse_lost_key()
        for folder in (self.predictions, self.quarantine, self.scratch, self.markers_folder):
            folder.mkdir(exist_ok=True)
        self._clean()

    def refuse_other_run(self, key: RunKey) -> None:
        """Refuse the folder of another run before the content of any input is hashed.

        Raises OutputError that names each part of the key that differs but for fingerprints.
        """
        if self.key_file.exists():
            self._compare(without_fingerprints(self._recorded_key()), without_fingerprints(key))

    def claim(self, key: RunKey) -> None:
        """Record which run this folder belongs to, or compare with what is recorded.

        Raises OutputError that names each part of the key that differs, the order included.
        """
        if not self.key_file.exists():
            self.write(self.key_file, json.dumps(key, indent=1))
            return
        try:
            self._compare(self._recorded_key(), key)
        except OutputError:
            self.journal.unlink(missing_ok=True)  # it is of the run that is refused
            raise

    def _recorded_key(self) -> object:
        try:
            return parse_json(self.key_file.read_bytes())
        except (OSError, ValueError) as error:
            raise OutputError(
                f"{self.key_file}: is damaged: {error}",
                hint="start again with --overwrite, or name another --output",
            ) from error

    def _compare(self, recorded: object, current: object) -> None:
        changes = list(differences(recorded, current))
        if changes:
            lines = "\n".join(f"  {change}" for change in changes)
            raise OutputError(
                f"{self.folder}: contains another run; what differs:\n{lines}",
                hint="name another --output, or discard that run with --overwrite",
            )

    def finish(self, text: str) -> None:
        """Write what the run's last files are, and then the very last. Raises OutputError."""
        self.write(self.published_file, json.dumps(self.last_hashes(text.encode()), indent=1))
        self.write(self.last_file, text)

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
        write_part(part, part_path, scratch=self.scratch)
        if quarantine is not None:
            write_part(quarantine, quarantine_path, scratch=self.scratch)
        marker = Marker(
            chunk=chunk,
            part=FileFacts.of(part_path),
            quarantine=FileFacts.of(quarantine_path) if quarantine is not None else None,
            stats=stats.to_json(),
        )
        self.write(self.marker_path(chunk.index), marker.sealed().model_dump_json())

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
        self.write(self.marker_path(index), marker.model_dump_json())

    def write(self, path: Path, text: str) -> None:
        """Write a small file whole or not at all. Raises OutputError with the system's reason."""
        try:
            write_atomic(path, text)
        except OSError as error:
            raise OutputError(
                f"{path}: cannot be written: {error}",
                hint=f"{remedy(error)}, then run the same command again: it resumes",
            ) from error

    def _adopt(self, source: Path, target: Path, index: int, facts: FileFacts) -> None:
        name = self.part_name(index)
        with atomic_path(target / name, scratch=self.scratch) as temporary:
            shutil.copyfile(source / name, temporary)
            if FileFacts.of(temporary) != facts:
                raise OutputError(
                    f"{source / name}: is not what its marker says",
                    hint="run the command of this shard again, then merge again",
                )

    def _refuse_lost_key(self) -> None:
        """Refuse a folder with parts and no record of their run: they are not thrown away."""
        if self.key_file.exists():
            return
        for folder in (self.markers_folder, self.predictions, self.quarantine):
            if folder.exists() and any(folder.iterdir()):
                raise OutputError(
                    f"{self.folder}: {self.key_file.name}, which says of which run its parts are, "
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
                f"{folder}: contains files that this run did not write: {listing(strays)}",
                hint="readers would count them: move them away, then run the same command again",
            )

    def _discard(self) -> None:
        """Discard an earlier run; only files that narrascan writes are removed.

        The first thing written and the last removed says so: a discard that was killed is finished
        by the next run.
        """
        self.write(self.discarding_file, "")
        for name in (RUN_FILE, SHARD_FILE, *REPORTS):
            (self.folder / name).unlink(missing_ok=True)
        shutil.rmtree(self.markers_folder, ignore_errors=True)
        for folder in (self.predictions, self.quarantine):
            for path in folder.glob("part-*.parquet"):
                path.unlink()
        for path in (self.published_file, self.key_file, self.discarding_file):
            path.unlink(missing_ok=True)

    def _clean(self) -> None:
        """Remove what a killed run left half-written."""
        shutil.rmtree(self.scratch, ignore_errors=True)
        self.scratch.mkdir()
        for folder in (self.folder, self.work, self.markers_folder):
            for leftover in folder.glob(".*.tmp"):
                leftover.unlink()


def _refuse_foreign(output: OutputFolder) -> None:
    if output.folder.is_file():
        raise OutputError(f"{output.folder}: is a file, not a folder", hint="name a folder")
    if output.work.exists() or not output.folder.exists() or not any(output.folder.iterdir()):
        return
    raise OutputError(
        f"{output.folder}: contains files that are not of a narrascan run",
        hint="name an empty or a new folder with --output",
    )


def _owner(output: OutputFolder) -> Owner | None:
    try:
        return Owner.model_validate_json(output.owner_file.read_bytes())
    except (OSError, ValidationError):
        return None
