"""Finding the files of a corpus: files, folders, globs, hive partitions and object-store URLs."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

import fsspec
from fsspec import AbstractFileSystem
from fsspec.implementations.local import LocalFileSystem

from schemas.errors import CorpusError, nearest

HIVE_NULL = "__HIVE_DEFAULT_PARTITION__"


@dataclass(frozen=True)
class SourceFile:
    """One Parquet file of a corpus.

    name: how predictions name it. path: where `filesystem` finds it.
    partitions: hive keys and values along its path.
    """

    name: str
    path: str
    filesystem: AbstractFileSystem
    partitions: tuple[tuple[str, str | None], ...]

    @property
    def is_local(self) -> bool:
        """True for a file on this machine."""
        return isinstance(self.filesystem, LocalFileSystem)

    def fingerprint(self) -> str:
        """What changes when the file does: its sha256, or size and version in an object store."""
        if self.is_local:
            with Path(self.path).open("rb") as file:
                return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
        facts = self.filesystem.info(self.path)
        version = [str(facts.get(key)) for key in ("ETag", "etag", "md5Hash", "mtime", "updated")]
        return f"size:{facts['size']}:" + hashlib.sha256("|".join(version).encode()).hexdigest()


def find_files(corpus: Sequence[str], *, leave_out: Path | None = None) -> list[SourceFile]:
    """List the files of a corpus, in the order given and by name within a folder or glob.

    A file that is named twice counts once. Hidden files and those that start with `_` are left
    out of folders.
    leave_out: folder whose files are not part of any folder or glob, because the run writes there.
    Raises CorpusError if an entry matches nothing.
    """
    found: dict[str, SourceFile] = {}
    for entry in corpus:
        for file in _expand(entry, leave_out):
            found.setdefault(file.path, file)
    return list(found.values())


def _expand(entry: str, leave_out: Path | None) -> Iterator[SourceFile]:
    if not entry.strip():
        raise CorpusError("an empty name stands for no corpus", hint="is a shell variable unset?")
    try:
        filesystem, path = fsspec.url_to_fs(entry)
        paths = _matches(filesystem, path)
    except (OSError, ValueError, ImportError) as error:
        raise CorpusError(
            f"{entry}: cannot be listed: {error}",
            hint="object stores need their fsspec package: s3fs, gcsfs or adlfs",
        ) from error
    if leave_out is not None and isinstance(filesystem, LocalFileSystem):
        paths = _outside(Path(os.path.abspath(leave_out)), path, paths)  # noqa: PTH100
    if not paths:
        raise CorpusError(f"{entry}: no Parquet files here", hint=_hint(filesystem, path))
    for match in paths:
        name = _name(entry, match, filesystem)
        _check_name(name)
        yield SourceFile(name, match, filesystem, _partitions(match))


def _matches(filesystem: AbstractFileSystem, path: str) -> list[str]:
    if filesystem.isfile(path):
        return [path]
    if filesystem.isdir(path):
        return sorted(
            match for match in filesystem.find(path) if _is_data(match.removeprefix(path))
        )
    if any(sign in path for sign in "*?["):
        return sorted({file for match in filesystem.glob(path) for file in _of(filesystem, match)})
    return []


def _of(filesystem: AbstractFileSystem, match: str) -> list[str]:
    """What one match of a glob stands for: a file, or the files of a folder that is not hidden."""
    hidden = PurePosixPath(match).name.startswith((".", "_"))
    return [] if hidden and filesystem.isdir(match) else _matches(filesystem, match)


def _outside(folder: Path, path: str, matches: list[str]) -> list[str]:
    """The matches that do not lie in `folder`, unless `path` itself points into it."""
    if folder in (Path(path), *Path(path).parents):
        return matches
    return [match for match in matches if folder not in Path(match).parents]


def _is_data(path: str) -> bool:
    parts = PurePosixPath(path).parts
    return path.endswith(".parquet") and not any(part.startswith((".", "_")) for part in parts)


def _name(entry: str, match: str, filesystem: AbstractFileSystem) -> str:
    if "://" in entry:
        return str(filesystem.unstrip_protocol(match))
    if Path(entry).is_absolute():
        return match
    return Path(os.path.relpath(match)).as_posix()


def _check_name(name: str) -> None:
    try:
        name.encode("utf-8")
    except UnicodeEncodeError as error:
        raise CorpusError(
            f"{name!r}: a file name that is not UTF-8 cannot be written into predictions",
            hint="rename the file",
        ) from error


def _partitions(match: str) -> tuple[tuple[str, str | None], ...]:
    """Hive keys and values of the folders that a file lies in; of a doubled key the last."""
    found: dict[str, str | None] = {}
    for part in PurePosixPath(match).parts[:-1]:
        key, equals, value = part.partition("=")
        if equals and key.isidentifier():
            text = unquote(value)
            found[key] = None if text == HIVE_NULL else text
    return tuple(found.items())


def _hint(filesystem: AbstractFileSystem, path: str) -> str:
    if any(sign in path for sign in "*?["):
        return "the glob matches nothing; quote it, so that the shell passes it on as it is"
    if filesystem.isdir(path):
        return "a folder is searched for *.parquet; hidden files and those with _ are left out"
    parent, _, name = path.rpartition("/")
    siblings = (
        [p.rpartition("/")[2] for p in filesystem.ls(parent, detail=False)]
        if (filesystem.isdir(parent))
        else []
    )
    close = nearest(name, siblings)
    return f"did you mean {close!r}?" if close else "check the path"
