"""Atomic writes of files and folders, and hashes of files."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

FOLDER_CANNOT_SYNC = frozenset(
    {
        errno.EINVAL,
        errno.ENOTSUP,
        errno.EOPNOTSUPP,
        errno.ENOSYS,
        errno.ENOTTY,
        errno.EBADF,
        errno.EACCES,
        errno.EPERM,
        errno.EISDIR,
    }
)
"""Error codes of file systems without fsync for folders (SMB, many FUSE file systems). They write
names at once or never; neither is a reason to end a run."""

REMEDIES = {
    errno.ENOSPC: "free some disk space",
    errno.EDQUOT: "the quota is used up: free some disk space or have it raised",
    errno.EFBIG: "a limit forbids files of this size (`ulimit -f`, or the file system's own)",
    errno.EROFS: "the file system is read-only: name another folder, or mount it for writing",
    errno.EACCES: "check the permissions of the folder",
    errno.EPERM: "check the permissions of the folder",
    errno.EIO: "the disk or the network file system reports an I/O error: check it (`dmesg`)",
    errno.ESTALE: "the network file system lost the folder: mount it again",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EMFILE: "too many files are open: raise `ulimit -n`",
    errno.ENFILE: "too many files are open on this machine",
}


def remedy(error: BaseException) -> str:
    """Hint for an error of the file system, by its error code."""
    code = getattr(error, "errno", None)
    return REMEDIES.get(code or 0, "see the reason that the system gives")


class FileFacts(BaseModel):
    """Hash and size of a file, which are checked before it is trusted."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sha256: str
    bytes: int = Field(ge=0)

    @classmethod
    def of(cls, path: Path) -> FileFacts:
        """Hash and size of a file on disk."""
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return cls(sha256=digest, bytes=path.stat().st_size)


def content_facts(content: bytes) -> FileFacts:
    """Hash and size of a file whose content was read already."""
    return FileFacts(sha256=hashlib.sha256(content).hexdigest(), bytes=len(content))


def sync(path: Path) -> None:
    """Flush a file or folder to disk; a folder only if its file system supports it.

    Raises OSError if a file cannot be flushed, or for an I/O error of a folder.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno not in FOLDER_CANNOT_SYNC or not path.is_dir():
            raise


@contextmanager
def atomic_path(final: Path, *, scratch: Path | None = None) -> Iterator[Path]:
    """Yield a temporary path to write to; on success fsync it and rename it to `final`.

    scratch: folder for the temporary file, on the same file system; the one of `final` by default.
    On an error the temporary file is removed and `final` is not changed.
    """
    temporary = (scratch or final.parent) / f".{final.name}.tmp"
    try:
        yield temporary
        sync(temporary)
        temporary.replace(final)
        sync(final.parent)
    finally:
        temporary.unlink(missing_ok=True)


def write_atomic(final: Path, text: str) -> None:
    """Write a UTF-8 text file atomically."""
    with atomic_path(final) as temporary:
        temporary.write_text(text, encoding="utf-8")


@contextmanager
def atomic_folder(final: Path) -> Iterator[Path]:
    """Yield a temporary folder to fill; on success it replaces `final`.

    An older folder of that name is removed only after the new one has replaced it.
    """
    final.parent.mkdir(parents=True, exist_ok=True)
    temporary = final.parent / f".{final.name}.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    settle_folder(final)
    temporary.mkdir()
    try:
        yield temporary
        for path in sorted(temporary.rglob("*")):
            sync(path)
        if final.exists():
            final.rename(_retired(final))
        temporary.rename(final)
        sync(final.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        settle_folder(final)


def settle_folder(final: Path) -> None:
    """Clean up after a kill inside `atomic_folder`: restore the older folder if it was not replaced
    yet, else remove it.
    """
    if _retired(final).exists() and not final.exists():
        _retired(final).rename(final)
    shutil.rmtree(_retired(final), ignore_errors=True)


def _retired(final: Path) -> Path:
    return final.parent / f".{final.name}.old"
