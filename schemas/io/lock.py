"""Lock files: one process at a time writes to an output folder.

Uses `fcntl.flock` of the standard library, because `schemas` must not import other packages. The
operating system releases the lock when the process ends, also when it is killed.
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
    """Lock a folder by a file in it, which records the command that the folder belongs to.

    what: kind of run that writes there, such as `training`. The folder is created if it is missing.
    The file stays if a run that began in an empty folder was stopped, and is removed when the run
    is finished; a folder that is left empty is removed, too.
    Raises LockedError that names the process which has the lock, OutputError if the lock file
    cannot be created.
    """
    path = folder / LOCK_FILE
    was_ours = path.exists() or not folder.is_dir() or not any(folder.iterdir())
    with _locked(path, folder, what):
        is_done = False
        try:
            yield
            is_done = True
        finally:
            if is_done or not was_ours or {entry.name for entry in folder.iterdir()} == {LOCK_FILE}:
                path.unlink()
            if not any(folder.iterdir()):
                folder.rmdir()


@contextmanager
def lock_beside(folder: Path, what: str) -> Iterator[None]:
    """Lock a folder that is replaced as a whole, by a file beside it that is removed at the end.

    Raises LockedError that names the process which has the lock, OutputError if the lock file
    cannot be created.
    """
    path = folder.parent / f".{folder.name}{LOCK_FILE}"
    with _locked(path, folder, what):
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def locked_by(path: Path) -> str | None:
    """Kind of run that a lock file records; None if there is no readable lock file."""
    try:
        what = parse_json(path.read_bytes())["what"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return what if isinstance(what, str) else None


@contextmanager
def _locked(path: Path, folder: Path, what: str) -> Iterator[None]:
    """Lock a file while the block runs; the block must remove the file itself, if at all."""
    descriptor = _open_current(path, folder, what)
    try:
        os.ftruncate(descriptor, 0)
        os.write(descriptor, json.dumps({"what": what, **_this_process()}).encode())
        yield
    finally:
        os.close(descriptor)


def _open_current(path: Path, folder: Path, what: str) -> int:
    """Open and lock the file at `path`; retries if its previous owner has just removed it."""
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, _FLAGS, 0o666)
        except FileNotFoundError:
            continue  # the folder was removed after `mkdir`
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
            f"{folder}: another process has locked this folder{_owner(path)}",
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
