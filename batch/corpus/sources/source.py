"""A file of a corpus: its name, its location, and the version that was listed."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

import fsspec
import pyarrow as pa
from fsspec import AbstractFileSystem

from batch.corpus.sources.names import Partitions
from batch.corpus.sources.urls import WEB, is_local, library_errors, plain_reason, redacted
from batch.corpus.sources.versions import (
    FileVersion,
    local_version,
    remote_version_now,
    version_of_handle,
)
from schemas.errors import CorpusError
from schemas.printable import printable


@dataclass(frozen=True)
class SourceFile:
    """One Parquet file of a corpus.

    name: its name in predictions. path: its path in `filesystem`, secrets included.
    partitions: hive keys and values along its path. version: the version that was listed.
    """

    name: str
    path: str = field(repr=False)
    filesystem: AbstractFileSystem = field(repr=False)
    partitions: Partitions
    version: FileVersion

    @property
    def label(self) -> str:
        """Its name in messages."""
        return printable(self.name)

    @property
    def is_local(self) -> bool:
        """True for a file on this machine."""
        return is_local(self.filesystem)

    def check_unchanged(self) -> None:
        """Raise CorpusError if the file is not the version that was listed."""
        if not self.is_local:
            with library_errors(self.path, "cannot be read", self.label):
                now = remote_version_now(self.filesystem, self.path)
        else:
            try:
                facts = os.stat(self.path)  # noqa: PTH116
            except OSError as error:
                raise CorpusError(
                    f"{self.label}: existed when the run began, and is not readable now: "
                    f"{plain_reason(error)}",
                    hint="restore it, then run again",
                ) from error
            now = local_version(facts)
        self.version.check(now, self.label)

    def open(self) -> pa.NativeFile | fsspec.spec.AbstractBufferedFile:
        """Open the version that was listed. Raises CorpusError if it changed or cannot be read.

        The file may be replaced at any time, so its version is checked before and after opening.
        """
        self.check_unchanged()
        with library_errors(self.path, "cannot be opened", self.label):
            if self.is_local:
                handle = pa.OSFile(self.path)
            else:
                handle = self.filesystem.open(self.path, **self._pinned())
        if self.is_local:
            self.check_unchanged()
        else:
            self.version.check(version_of_handle(handle), self.label)
        return handle

    def _pinned(self) -> dict[str, object]:
        """Request headers that make a web server return this version only.

        Object stores pin the version of an open file themselves. Headers that the user set in
        fsspec's configuration are not replaced.
        """
        facts = dict(self.version.facts)
        if redacted(self.path).partition("://")[0] not in WEB or "headers" in getattr(
            self.filesystem, "kwargs", {}
        ):
            return {}
        headers = {}
        etag = str(facts.get("etag", ""))
        if etag.startswith('"'):  # a weak etag, W/"...", does not identify the exact bytes
            headers["If-Match"] = etag
        elif "lastmodified" in facts:
            headers["If-Unmodified-Since"] = str(facts["lastmodified"])
        return {"headers": headers} if headers else {}
