"""Folders that only their owner can change, by the rules of ssh's StrictModes."""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Iterable
from pathlib import Path

from schemas.errors import UsageError
from schemas.printable import printable

OTHERS_MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH
SUPERUSER = 0


def make_private(folder: Path) -> None:
    """Create a folder and its missing parents, accessible to their owner only. Raises OSError.

    Folders that exist keep their mode.
    """
    for path in reversed([path for path in (folder, *folder.parents) if not path.exists()]):
        path.mkdir(mode=stat.S_IRWXU, exist_ok=True)


def require_private(folder: Path, patterns: Iterable[str]) -> Path:
    """Check that only the current user can change a folder; it is created if it is missing.

    The folder and the files in it that match one of `patterns` must belong to the current user.
    No other user may have write access to them, or to a parent folder, where the folder could be
    replaced.
    Returns the path of the folder with symbolic links resolved. Raises UsageError that names the
    path that another user can change, and how to prevent it.
    """
    try:
        make_private(folder)
        resolved = folder.resolve(strict=True)
        for path in (resolved, *resolved.parents):
            _check(path, is_inside=path == resolved)
        for path in sorted({path for pattern in patterns for path in resolved.glob(pattern)}):
            _check(path, is_inside=True)
    except OSError as error:
        raise UsageError(
            f"--cache {printable(str(folder))}: its permissions cannot be checked, which "
            f"--require-signature needs: {error.strerror}",
            hint="name a folder of your own, or leave --cache out",
        ) from error
    return resolved


def _check(path: Path, *, is_inside: bool) -> None:
    """Raise UsageError if another user can change or replace a file or folder."""
    status = path.lstat()
    kind, mode = stat.S_IFMT(status.st_mode), stat.S_IMODE(status.st_mode)
    owners = {os.getuid()} if is_inside else {os.getuid(), SUPERUSER}
    shown = shlex.quote(printable(str(path)))
    if kind not in (stat.S_IFDIR, stat.S_IFREG):
        raise _refusal(path, "is neither a file nor a folder", f"remove it: rm {shown}")
    if status.st_uid not in owners:
        hint = "name a folder of your own with --cache"
        raise _refusal(path, f"belongs to another user (uid {status.st_uid})", hint)
    # In a folder with the sticky bit, such as /tmp, users cannot replace files of other users.
    is_shared = not is_inside and kind == stat.S_IFDIR and mode & stat.S_ISVTX
    if mode & OTHERS_MAY_WRITE and not is_shared:
        raise _refusal(
            path, f"other users have write access (mode {mode:04o})", f"chmod go-w {shown}"
        )


def _refusal(path: Path, problem: str, hint: str) -> UsageError:
    return UsageError(
        f"--cache: {printable(str(path))}: {problem}; with --require-signature only the user of "
        "the run may be able to change cached scores",
        hint=hint,
    )
