"""The bundle folder: its layout, and the check that no file in it was changed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from schemas.errors import BundleError, UsageError, listing, nearest
from schemas.files import FileFacts
from schemas.metadata import SCHEMA_VERSION, check_version
from schemas.tasks import TaskName
from schemas.variants import OWN_FILE, Precision

ALL_TASKS = "all"
"""Stands for every task of a bundle, unless one has that name."""


class SharedGraph(BaseModel):
    """A graph of the encoder and the heads of several tasks, which read the same text."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tasks: tuple[TaskName, ...]
    files: dict[Precision, str]
    """File names by precision; the fastest first, as measured at the export."""


class BundleManifest(BaseModel):
    """`bundle.json`: which file serves which task, and the facts of every file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: int = SCHEMA_VERSION
    tasks: dict[TaskName, dict[Precision, str]]
    """File names of each task by precision; the fastest first, as measured at the export."""
    shared: tuple[SharedGraph, ...] = ()
    """One for each two or more tasks that read the same text; no task is in two."""
    files: dict[str, FileFacts]
    """Every file of the bundle but `bundle.json` itself."""


@dataclass(frozen=True)
class BundleFiles:
    """Paths inside a bundle folder."""

    folder: Path

    @property
    def manifest(self) -> Path:
        return self.folder / "bundle.json"

    @property
    def signature(self) -> Path:
        """Over the manifest, where the bundle is signed; the one file that no manifest lists."""
        return self.folder / "bundle.json.sig"

    @property
    def tokenizer(self) -> Path:
        return self.folder / "tokenizer.json"

    @property
    def probes(self) -> Path:
        """Texts of no one's with the logits that they had at export."""
        return self.folder / "probes.parquet"

    @property
    def card(self) -> Path:
        return self.folder / "MODEL_CARD.md"

    def onnx(self, task: str, precision: Precision = "fp32") -> Path:
        """The graph of one task in a precision."""
        return self.folder / f"{task}{_suffix(precision)}"

    def shared(self, first_task: str, precision: Precision = "fp32") -> Path:
        """The graph that several tasks share, named after the first; no task has a `-`."""
        return self.folder / f"shared-{first_task}{_suffix(precision)}"


def _suffix(precision: Precision) -> str:
    return f".{precision}.onnx" if precision in OWN_FILE else ".onnx"


ManifestCheck = Callable[[bytes, BundleFiles], None]
"""Called with the bytes of `bundle.json` before they are parsed; raises to refuse them."""


@dataclass(frozen=True)
class Bundle:
    """A bundle whose manifest was read; files are checked when they are asked for."""

    files: BundleFiles
    manifest: BundleManifest
    sha256: str
    """Of `bundle.json`, and through it of every file."""

    @classmethod
    def open(cls, folder: Path, *, check: ManifestCheck | None = None) -> Bundle:
        """Read the manifest. Raises BundleError if there is none or it is not valid.

        check: has its say on the very bytes that are then parsed.
        """
        files = BundleFiles(folder)
        try:
            raw = files.manifest.read_bytes()
        except OSError as error:
            raise BundleError(
                f"{folder}: no bundle here ({files.manifest.name} cannot be read: "
                f"{error.strerror})",
                hint="make one with `export-classifier CHECKPOINT --output DIR`, or name another "
                "with --bundle",
            ) from error
        if check is not None:
            check(raw, files)
        return cls(files, _parse_manifest(raw, files.manifest), hashlib.sha256(raw).hexdigest())

    def select(self, wanted: str) -> tuple[str, ...]:
        """The tasks that "narrative", "narrative,topics" or "all" names, in the bundle's order.

        Raises UsageError for a task that is not in the bundle, or is named twice.
        """
        if wanted == ALL_TASKS and wanted not in self.manifest.tasks:
            return tuple(self.manifest.tasks)
        names = [name.strip() for name in wanted.split(",")]
        for name in names:
            self._require(name)
        if len(set(names)) < len(names):
            raise UsageError(
                f"tasks {wanted!r}: one is named twice", hint="name each task once with --task"
            )
        return tuple(task for task in self.manifest.tasks if task in names)

    def precisions(self, tasks: str | tuple[str, ...]) -> Mapping[Precision, str]:
        """File names of a task, or of the graph that tasks share, by precision, the fastest first.

        Raises UsageError for a task that is not in the bundle, and for tasks that share no graph.
        """
        names = (tasks,) if isinstance(tasks, str) else tasks
        for name in names:
            self._require(name)
        if len(names) == 1:
            return self.manifest.tasks[names[0]]
        for graph in self.manifest.shared:
            if set(names) <= set(graph.tasks):
                return graph.files
        raise UsageError(
            f"{self.files.folder}: has no file that tasks {listing(names)} share",
            hint="run batch-classify for one task at a time",
        )

    def onnx(self, tasks: str | tuple[str, ...], precision: Precision) -> Path:
        """The checked graph of a task, or the one that tasks share.

        Raises UsageError as `precisions` does, or for a precision that is not in the bundle, and
        BundleError for a changed file.
        """
        found = self.precisions(tasks)
        if precision not in found:
            names = (tasks,) if isinstance(tasks, str) else tasks
            named = f"task{'s' if len(names) > 1 else ''} {listing(names)}"
            raise UsageError(
                f"precision {precision}: {self.files.folder} has {named} in {listing(found)} only",
                hint="use --precision auto, or export the checkpoint again",
            )
        return self.checked(found[precision])

    def tokenizer(self) -> Path:
        """The checked tokenizer file."""
        return self.checked(self.files.tokenizer.name)

    def check_all(self) -> None:
        """Compare every file with the manifest. Raises BundleError at the first that differs."""
        for name in self.manifest.files:
            self.checked(name)

    def checked(self, name: str) -> Path:
        """The path of a file that is listed and unchanged. Raises BundleError for any other."""
        path = self.files.folder / name
        stored = self.manifest.files.get(name)
        if stored is None or Path(name).name != name:
            raise BundleError(f"{self.files.manifest}: file {name!r} is not listed")
        try:
            found = FileFacts.of(path)
        except OSError as error:
            raise BundleError(
                f"{path}: cannot be read: {error.strerror}", hint="export the checkpoint again"
            ) from error
        if found != stored:
            raise BundleError(
                f"{path}: changed since the bundle was written: sha256 {found.sha256[:12]}... "
                f"({found.bytes} bytes), expected {stored.sha256[:12]}... ({stored.bytes} bytes)",
                hint="export the checkpoint again, or copy the bundle again",
            )
        return path

    def _require(self, task: str) -> None:
        if task not in self.manifest.tasks:
            close = nearest(task, self.manifest.tasks)
            raise UsageError(
                f"unknown task {task!r}: {self.files.folder} has {listing(self.manifest.tasks)}",
                hint=f"did you mean {close!r}?" if close else "name one of those with --task",
            )


def _parse_manifest(raw: bytes, path: Path) -> BundleManifest:
    try:
        stored = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{path}: not JSON: {error}", hint="copy the bundle again") from error
    if not isinstance(stored, dict):
        raise BundleError(f"{path}: a JSON object is expected, not {type(stored).__name__}")
    check_version(stored.get("schema_version"), source=str(path))
    try:
        return BundleManifest.model_validate(stored)
    except ValidationError as error:
        raise BundleError(f"{path}: not a valid manifest: {error}") from error
