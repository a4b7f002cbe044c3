"""Folders that nobody but their owner may change, by the rules of ssh's StrictModes."""

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
    """Make a folder and the missing ones above it, for its owner only. Raises OSError.

    What is there already stays as it is.
    """
    for missing in reversed([path for path in (folder, *folder.parents) if not path.exists()]):
        missing.mkdir(mode=stat.S_IRWXU, exist_ok=True)


def require_private(folder: Path, patterns: Iterable[str]) -> Path:
    """The folder without symbolic links in its path, made if it is missing.

    It must be the current user's, like the files in it that match one of `patterns`, and nobody
    else may write to them, or to a folder above, where the whole could be replaced.
    Raises UsageError that names what someone else may change, and how to forbid it.
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
            f"--cache {printable(str(folder))}: cannot be checked, as --require-signature asks: "
            f"{error.strerror}",
            hint="name a folder of your own, or leave --cache out",
        ) from error
    return resolved


def _check(path: Path, *, is_inside: bool) -> None:
    """Raise UsageError if someone else may change a file or folder, or what its name stands for."""
    status = path.lstat()
    kind, mode = stat.S_IFMT(status.st_mode), stat.S_IMODE(status.st_mode)
    owners = {os.getuid()} if is_inside else {os.getuid(), SUPERUSER}
    shown = shlex.quote(printable(str(path)))
    if kind not in (stat.S_IFDIR, stat.S_IFREG):
        raise _refusal(path, "is neither a file nor a folder", f"remove it: rm {shown}")
    if status.st_uid not in owners:
        hint = "name a folder of your own with --cache"
        raise _refusal(path, f"belongs to another user (uid {status.st_uid})", hint)
    # In a folder with the sticky bit, such as /tmp, others cannot replace what is not theirs.
    is_shared = not is_inside and kind == stat.S_IFDIR and mode & stat.S_ISVTX
    if mode & OTHERS_MAY_WRITE and not is_shared:
        raise _refusal(path, f"others may write to it (mode {mode:04o})", f"chmod go-w {shown}")


def _refusal(path: Path, problem: str, hint: str) -> UsageError:
    return UsageError(
        f"--cache: {printable(str(path))}: {problem}; whoever may change the cache decides the "
        "scores of a run with --require-signature",
        hint=hint,
    )
