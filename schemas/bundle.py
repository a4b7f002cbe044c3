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
from schemas.variants import Precision


class BundleManifest(BaseModel):
    """`bundle.json`: which file serves which task, and the facts of every file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: int = SCHEMA_VERSION
    tasks: dict[TaskName, dict[Precision, str]]
    """File names of each task by precision; the fastest first, as measured at the export."""
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
        """The graph of one task; bf16 is made of the one of fp32."""
        middle = f".{precision}" if precision == "int8" else ""
        return self.folder / f"{task}{middle}.onnx"


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

    def precisions(self, task: str) -> Mapping[Precision, str]:
        """File names of a task by precision, the fastest first.

        Raises UsageError for a task that is not in the bundle.
        """
        found = self.manifest.tasks.get(task)
        if found is None:
            close = nearest(task, self.manifest.tasks)
            raise UsageError(
                f"unknown task {task!r}: {self.files.folder} has {listing(self.manifest.tasks)}",
                hint=f"did you mean {close!r}?" if close else "name one of those with --task",
            )
        return found

    def onnx(self, task: str, precision: Precision) -> Path:
        """The checked graph of a task.

        Raises UsageError for a task or a precision that is not in the bundle, BundleError for a
        changed file.
        """
        found = self.precisions(task)
        if precision not in found:
            raise UsageError(
                f"precision {precision}: {self.files.folder} has task {task!r} in "
                f"{listing(found)} only",
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


def _parse_manifest(raw: bytes, path: Path) -> BundleManifest:
    try:
        stored = json.loads(raw)
    except ValueError as error:
        raise BundleError(f"{path}: not JSON: {error}", hint="copy the bundle again") from error
    if not isinstance(stored, dict):
        raise BundleError(f"{path}: a JSON object is expected, not {type(stored).__name__}")
    check_version(stored.get("schema_version"), source=str(path))
    try:
        return BundleManifest.model_validate(stored)
    except ValidationError as error:
        raise BundleError(f"{path}: not a valid manifest: {error}") from error
