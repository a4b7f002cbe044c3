"""Lock files: one process at a time writes to an output folder.

`fcntl.flock` of the standard library, because `schemas` stays without other packages: the lock is
the operating system's and ends with its process, also when that is killed.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from schemas.errors import LockedError, OutputError
from schemas.io.json_values import parse_json
from schemas.printable import printable

LOCK_FILE = ".lock"
"""Name of a lock file inside the folder that it is for."""

_FLAGS = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW

log = logging.getLogger(__name__)


@contextmanager
def lock_inside(folder: Path, what: str) -> Iterator[None]:
    """Lock a folder by a file in it, which says which command the folder belongs to.

    what: what is written there, such as `training`. The folder is made if it is not there. The file
    stays where work that began in an empty folder was stopped, and is removed when it is done; a
    folder that is left empty is removed too.
    Raises LockedError with the process that holds the lock, OutputError if none can be made.
    """
    path = folder / LOCK_FILE
    is_mark = path.exists() or not folder.is_dir() or not any(folder.iterdir())
    with _locked(path, folder, what):
        is_done = False
        try:
            yield
            is_done = True
        finally:
            if is_done or not is_mark or {entry.name for entry in folder.iterdir()} == {LOCK_FILE}:
                path.unlink()
            if not any(folder.iterdir()):
                folder.rmdir()


@contextmanager
def lock_beside(folder: Path, what: str) -> Iterator[None]:
    """Lock a folder that is replaced as a whole, by a file beside it that is removed at the end.

    Raises LockedError with the process that holds the lock, OutputError if none can be made.
    """
    path = folder.parent / f".{folder.name}{LOCK_FILE}"
    with _locked(path, folder, what):
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def locked_by(path: Path) -> str | None:
    """What a lock file says that it is for; None if there is none that can be read."""
    try:
        what = parse_json(path.read_bytes())["what"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return what if isinstance(what, str) else None


@contextmanager
def _locked(path: Path, folder: Path, what: str) -> Iterator[None]:
    """Hold the lock of a file; whoever removes the file does so before this ends."""
    descriptor = _open_current(path, folder, what)
    try:
        os.ftruncate(descriptor, 0)
        os.write(descriptor, json.dumps({"what": what, **_this_process()}).encode())
        yield
    finally:
        os.close(descriptor)


def _open_current(path: Path, folder: Path, what: str) -> int:
    """Open and lock the file of that name: another one if its last owner has just removed it."""
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, _FLAGS, 0o666)
        except FileNotFoundError:
            continue  # the folder was removed between the two
        except OSError as error:
            raise OutputError(f"{folder}: cannot be written to: {error.strerror}") from error
        try:
            _lock(descriptor, folder, what, path)
            if os.path.samestat(os.fstat(descriptor), path.stat()):
                return descriptor
        except FileNotFoundError:
            pass
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _lock(descriptor: int, folder: Path, what: str, path: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise LockedError(
            f"{folder}: another process writes here{_owner(path)}",
            hint="wait for it, or name another --output",
        ) from error
    except OSError as error:  # a file system without locks
        log.warning("%s: %s runs without a lock: %s", folder, what, error.strerror)


def _this_process() -> dict[str, object]:
    since = datetime.now(UTC).isoformat(timespec="seconds")
    return {"pid": os.getpid(), "host": socket.gethostname(), "since": since}


def _owner(path: Path) -> str:
    try:
        owner = parse_json(path.read_bytes())
        text = "{what}, process {pid} on {host}, since {since}".format(**owner)
    except (OSError, ValueError, KeyError, TypeError):
        return ""
    return f": {printable(text)}"
