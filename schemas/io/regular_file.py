"""Reading of untrusted files: regular files only, in full, and never more bytes than allowed.

Opening a named pipe waits for a writer, reading a device may never end, and a sparse file of a few
blocks may claim terabytes. So the kind and the size of a file are checked before its first byte is
read. Symbolic links are followed: only the content matters.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
READ_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)
"""`O_NONBLOCK`: opening does not block if the file was replaced by a pipe after the first check. It
has no effect on regular files."""


@dataclass(frozen=True)
class RegularFile:
    """An open regular file. size: in bytes, when it was opened."""

    file: BinaryIO
    size: int

    def read(self) -> bytes:
        """The whole content. Raises OSError if it is longer or shorter than when it was opened."""
        content = self.file.read(self.size)
        if len(content) != self.size or self.file.read(1):
            raise OSError(errno.EIO, "it changed while it was read")
        return content


@contextmanager
def open_regular_file(path: Path) -> Iterator[RegularFile]:
    """Open a file for reading. Raises OSError, for anything but a regular file before opening it.

    Its `strerror` completes the sentence "FILE: cannot be read: ...".
    """
    _require_regular(path.stat().st_mode, path)
    descriptor = os.open(path, READ_FLAGS)
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        _require_regular(status.st_mode, path)
        yield RegularFile(file, status.st_size)


def read_regular_file(path: Path, *, max_bytes: int) -> bytes:
    """Content of a regular file of at most `max_bytes`. Raises OSError, as `open_regular_file`."""
    with open_regular_file(path) as opened:
        if opened.size > max_bytes:
            raise OSError(
                errno.EFBIG,
                f"it has {opened.size:,} bytes, and at most {max_bytes:,} are allowed",
                str(path),
            )
        return opened.read()


def _require_regular(mode: int, path: Path) -> None:
    if not stat.S_ISREG(mode):
        kind = KINDS.get(stat.S_IFMT(mode), "something else")
        raise OSError(errno.EINVAL, f"it is {kind}, and a regular file is expected", str(path))
