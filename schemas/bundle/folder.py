"""The bundle folder: its layout, and its files as the very bytes that the manifest vouches for.

Nothing outside this module opens a file of a bundle. A file is read once into memory, its hash is
taken there, and those bytes are what is used: a file that is replaced after the check changes
nothing, and no engine gets a path beside which other files can lie.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from schemas.bundle.variants import PRECISION_SPECS, Precision
from schemas.errors import BundleError, UsageError, listing, nearest
from schemas.io.files import FileFacts, content_facts
from schemas.io.json_values import parse_json
from schemas.io.regular_file import open_regular_file, read_regular_file
from schemas.printable import printable
from schemas.tasks.task import TaskName
from schemas.validation import validation_problems
from schemas.version import SCHEMA_VERSION, check_version

ALL_TASKS = "all"
"""Stands for every task of a bundle, unless one has that name."""

MAX_MANIFEST_BYTES = 4_000_000
"""Size of `bundle.json` at most; that of a bundle of a hundred tasks has a tenth of it."""
MAX_FILE_BYTES = 2**31 - 1
"""Size of a file of a bundle at most: no reader of protobuf takes more."""


def _check_file_name(name: str) -> str:
    """A plain name, which leads to no other folder on any system."""
    plain = PurePosixPath(name).name == PureWindowsPath(name).name == name
    if not name or name == ".." or not plain or printable(name) != name:
        raise ValueError(f"{name!r} is not a plain file name")
    return name


FileName = Annotated[str, AfterValidator(_check_file_name)]


class SharedGraph(BaseModel):
    """A graph of the encoder and the heads of several tasks, which read the same text."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tasks: tuple[TaskName, ...] = Field(min_length=2)
    files: dict[Precision, FileName] = Field(min_length=1)
    """File names by precision; the fastest first, as measured at the export."""


class BundleManifest(BaseModel):
    """`bundle.json`: which file serves which task, and the facts of every file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: int = SCHEMA_VERSION
    tasks: dict[TaskName, dict[Precision, FileName]] = Field(min_length=1)
    """File names of each task by precision; the fastest first, as measured at the export."""
    shared: tuple[SharedGraph, ...] = ()
    """One for each two or more tasks that read the same text; no task is in two."""
    files: dict[FileName, FileFacts]
    """Every file of the bundle but `bundle.json` itself."""

    @model_validator(mode="after")
    def _names_what_it_lists(self) -> Self:
        graphs = [*self.tasks.values(), *(graph.files for graph in self.shared)]
        for name in [name for files in graphs for name in files.values()]:
            if name not in self.files:
                raise ValueError(f"file {name!r} is not listed under files")
        if any("fp32" not in files for files in graphs):
            raise ValueError("a graph has no fp32 file, from which every other precision is made")
        shared = [task for graph in self.shared for task in graph.tasks]
        for task in shared:
            if task not in self.tasks:
                raise ValueError(f"task {task!r} of a shared graph is not listed under tasks")
            if shared.count(task) > 1:
                raise ValueError(f"task {task!r} is listed twice under shared")
        return self


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
        """Synthetic texts with their logits at export."""
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
    return f".{precision}.onnx" if PRECISION_SPECS[precision].has_own_file else ".onnx"


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
            raw = read_regular_file(files.manifest, max_bytes=MAX_MANIFEST_BYTES)
        except OSError as error:
            raise BundleError(
                f"{printable(str(folder))}: no bundle here ({files.manifest.name} cannot be read: "
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

    def precisions(self, tasks: tuple[str, ...]) -> Mapping[Precision, str]:
        """File names of a task, or of the graph that tasks share, by precision, the fastest first.

        Raises UsageError for a task that is not in the bundle, and for tasks that share no graph.
        """
        for task in tasks:
            self._require(task)
        if len(tasks) == 1:
            return self.manifest.tasks[tasks[0]]
        for graph in self.manifest.shared:
            if set(tasks) <= set(graph.tasks):
                return graph.files
        raise UsageError(
            f"{printable(str(self.files.folder))}: has no file that tasks {listing(tasks)} share",
            hint="run batch-classify for one task at a time",
        )

    def graph_name(self, tasks: tuple[str, ...], precision: Precision) -> str:
        """File name of the graph of a task, or of the one that tasks share.

        Raises UsageError as `precisions` does, or for a precision that is not in the bundle.
        """
        files = self.precisions(tasks)
        if precision not in files:
            plural = "s" if len(tasks) > 1 else ""
            raise UsageError(
                f"precision {precision}: {printable(str(self.files.folder))} has task{plural} "
                f"{listing(tasks)} in {listing(files)} only",
                hint="use --precision auto, or export the checkpoint again",
            )
        return files[precision]

    def read(self, name: str) -> bytes:
        """Content of a file that is listed and unchanged; the hash is that of these very bytes.

        Raises BundleError for any other. The size is compared before the first byte is read.
        """
        path = self.files.folder / name
        shown = printable(str(path))
        listed = self.manifest.files.get(name)
        if listed is None:
            raise BundleError(
                f"{printable(str(self.files.manifest))}: file {name!r} is not listed",
                hint="export the checkpoint again",
            )
        try:
            with open_regular_file(path) as opened:
                if opened.size != listed.bytes or opened.size > MAX_FILE_BYTES:
                    raise _changed(shown, listed, f"{opened.size:,} bytes")
                content = opened.read()
        except OSError as error:
            raise BundleError(
                f"{shown}: cannot be read: {error.strerror}", hint="export the checkpoint again"
            ) from error
        if (now := content_facts(content)) != listed:
            raise _changed(shown, listed, f"sha256 {now.sha256[:12]}...")
        return content

    def read_tokenizer(self) -> bytes:
        """Content of the tokenizer file, checked as by `read`."""
        return self.read(self.files.tokenizer.name)

    def check_all(self) -> None:
        """Compare every file with the manifest. Raises BundleError at the first that differs."""
        for name in self.manifest.files:
            self.read(name)

    def _require(self, task: str) -> None:
        if task not in self.manifest.tasks:
            close = nearest(task, self.manifest.tasks)
            raise UsageError(
                f"unknown task {task!r}: {printable(str(self.files.folder))} has "
                f"{listing(self.manifest.tasks)}",
                hint=f"did you mean {close!r}?" if close else "name one of those with --task",
            )


def _changed(path: str, listed: FileFacts, now: str) -> BundleError:
    return BundleError(
        f"{path}: changed since the bundle was written: {now}, expected {listed.bytes:,} bytes "
        f"with sha256 {printable(listed.sha256[:12])}...",
        hint="export the checkpoint again, or copy the bundle again",
    )


def _parse_manifest(raw: bytes, path: Path) -> BundleManifest:
    shown = printable(str(path))
    try:
        stored = parse_json(raw)
    except ValueError as error:
        raise BundleError(f"{shown}: not JSON: {error}", hint="copy the bundle again") from error
    if not isinstance(stored, dict):
        raise BundleError(f"{shown}: a JSON object is expected, not {type(stored).__name__}")
    check_version(stored.get("schema_version"), source=shown)
    try:
        return BundleManifest.model_validate(stored)
    except ValidationError as error:
        raise BundleError(
            f"{shown}: not a valid manifest: {validation_problems(error, 'manifest')}",
            hint="export the checkpoint again",
        ) from error
