"""Listing of a corpus: files, folders, globs, hive partitions and object-store URLs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import fsspec
from fsspec import AbstractFileSystem
from fsspec.implementations.local import LocalFileSystem

from batch.corpus.sources.names import SUFFIXES, partitions_of
from batch.corpus.sources.source import SourceFile
from batch.corpus.sources.tree import Kind, Node, open_tree
from batch.corpus.sources.urls import (
    CHAIN,
    WEB,
    check_protocols,
    is_local,
    label_of,
    library_errors,
    redacted,
    source_name,
)
from batch.corpus.sources.versions import CheckStop, describe_kind, never_stop, remote_version
from batch.corpus.sources.walk import Candidate, Walk, special_file
from schemas.errors import CorpusError, listing, nearest
from schemas.printable import printable

MAX_LEFT_OUT = 100
"""Maximum number of skipped files that are listed by name; the rest is only counted."""
PROCESS_PATHS = ("/dev/stdin", "/dev/fd/", "/proc/")
"""Paths with other content in every process, so that a run could not be resumed."""


@dataclass(frozen=True)
class LeftOut:
    """A file or folder that is not read, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class CorpusListing:
    """The files of a corpus, and those that are left out.

    left_out: the first MAX_LEFT_OUT by name. left_out_count: number of all that are left out.
    corpus, output: the arguments of `find_files`, to list the corpus again.
    """

    files: tuple[SourceFile, ...]
    left_out: tuple[LeftOut, ...]
    left_out_count: int
    corpus: tuple[str, ...] = field(repr=False)
    output: Path | None

    def summary(self) -> str | None:
        """Number and examples of the files left out, for the log; None if there are none."""
        if not self.left_out_count:
            return None
        examples = "; ".join(f"{printable(file.name)}: {file.reason}" for file in self.left_out[:3])
        more = "; ..." if self.left_out_count > 3 else ""
        return f"left out: {self.left_out_count:,} files or folders ({examples}{more})"


def find_files(
    corpus: Sequence[str], *, leave_out: Path | None = None, check_stop: CheckStop = never_stop
) -> CorpusListing:
    """List the files of a corpus, in the order given and by name within a folder or glob.

    A file that is named twice counts once, also through links, unless its partition keys differ.
    leave_out: folder to exclude from every folder and glob, because the run writes there.
    Raises CorpusError if an entry matches nothing, or a folder cannot be listed.
    """
    collected = _Collected()
    for entry in corpus:
        before = len(collected.left_out)
        if not _collect(entry, leave_out, collected, check_stop):
            skipped = [printable(name) for name in list(collected.left_out)[before:]]
            more = f"; left out: {listing(skipped, 3)}" if skipped else ""
            raise CorpusError(f"{label_of(entry)}: no Parquet files here{more}", hint=_hint(entry))
    names = sorted(collected.left_out)
    left_out = tuple(LeftOut(name, collected.left_out[name]) for name in names[:MAX_LEFT_OUT])
    files = collected.files()
    return CorpusListing(files, left_out, len(names), tuple(corpus), leave_out)


class _Collected:
    """Files of all entries; the same real file is added once per set of partition keys."""

    def __init__(self) -> None:
        self.left_out: dict[str, str] = {}
        self._sources: dict[str, SourceFile] = {}
        self._names: dict[tuple[object, str], list[str]] = {}

    def files(self) -> tuple[SourceFile, ...]:
        return tuple(self._sources.values())

    def note(self, name: str, reason: str) -> None:
        writable = name.encode("utf-8", "backslashreplace").decode("utf-8")
        self.left_out.setdefault(writable, reason)

    def add(self, source: SourceFile, real: str) -> None:
        """Add a file unless it was added already, under this name or through a link.

        The same file with other values of partition keys (`day=1`, `day=2`) has other rows, as for
        every reader. If one path has more keys than the other, these are used.
        """
        filesystem = "" if source.is_local else source.filesystem
        names = self._names.setdefault((filesystem, real), [])
        for added in (self._sources[name] for name in names):
            new_keys, added_keys = set(source.partitions), set(added.partitions)
            if new_keys <= added_keys or added_keys <= new_keys:
                if added_keys < new_keys:
                    self._sources[added.name] = replace(added, partitions=source.partitions)
                if source.name != added.name:
                    self.note(source.name, f"the same file as {added.name}")
                return
        if source.name in self._sources:
            raise CorpusError(
                f"{source.label}: two different files have this name, without passwords and "
                "queries",
                hint="score them in separate runs",
            )
        names.append(source.name)
        self._sources[source.name] = source

    def add_entry(self, sources: list[tuple[SourceFile, str]]) -> None:
        """Add the files of an entry, given with their real paths, and sort them by path."""
        before = dict(self._sources)
        for source, real in sources:
            self.add(source, real)
        added = [source for name, source in self._sources.items() if name not in before]
        added.sort(key=lambda source: source.path)
        self._sources = {name: self._sources[name] for name in before}
        self._sources |= {source.name: source for source in added}


def _collect(
    entry: str, leave_out: Path | None, collected: _Collected, check_stop: CheckStop
) -> bool:
    """Add the files of one entry; False if it has none."""
    filesystem, path = _open_filesystem(entry)

    def name_of(below: str) -> str:
        return source_name(entry, below, filesystem)

    def note(below: str, reason: str) -> None:
        collected.note(name_of(below.rstrip("/")) + ("/" if below.endswith("/") else ""), reason)

    walk = Walk(
        tree=open_tree(filesystem, entry, check_stop),
        entry=entry,
        label=lambda below: printable(name_of(below)),
        leave_out=note,
        output=_output_below(path, leave_out) if is_local(filesystem) and leave_out else "",
    )
    candidates = _candidates(walk, path)
    sources = []
    for candidate in sorted(candidates, key=_directness):
        check_stop()
        source = _source(candidate, name_of(candidate.node.path), filesystem, check_stop)
        sources.append((source, candidate.node.real))
    collected.add_entry(sources)
    return bool(candidates)


def _directness(candidate: Candidate) -> tuple[bool, str]:
    """Sort key that puts files not reached through a link first, so that their names are used."""
    return candidate.node.is_linked, candidate.node.path


def _open_filesystem(entry: str) -> tuple[AbstractFileSystem, str]:
    """The file system of an entry, without fsspec's cache of earlier listings."""
    if not entry.strip():
        raise CorpusError("the name of a corpus is empty", hint="is a shell variable unset?")
    if "://" not in entry and os.path.lexists(entry):  # a path, even with pattern characters
        return LocalFileSystem(), os.path.abspath(entry)  # noqa: PTH100
    check_protocols(entry)
    for link in entry.split(CHAIN)[1:]:
        _check_archive(link)
    with library_errors(entry, "cannot be listed"):
        filesystem, path = fsspec.url_to_fs(entry, skip_instance_cache=True)
    return filesystem, path


def _check_archive(link: str) -> None:
    """Refuse an archive that is a pipe or a device before it is opened; `dir://` names folders."""
    path = Path(link.partition("://")[2] if link.startswith(("file://", "local://")) else link)
    if path.exists() and not path.is_file() and not path.is_dir():
        raise special_file(label_of(link), describe_kind(path.stat().st_mode))


def _source(
    candidate: Candidate, name: str, filesystem: AbstractFileSystem, check_stop: CheckStop
) -> SourceFile:
    label, path = printable(name), candidate.node.path
    _check_name(name)
    version = candidate.node.version
    if version is None:
        with library_errors(path, "cannot be read", label):
            version = remote_version(filesystem, path, check_stop)
    return SourceFile(name, path, filesystem, partitions_of(candidate.folders, label), version)


def _candidates(walk: Walk, path: str) -> list[Candidate]:
    """The data files of an entry, which is a file, a folder, or a glob."""
    top = walk.tree.node(path)
    if top is None:
        top, pattern = _split_pattern(path, walk)
        if top is None:
            return []
        walk.check_above(top)
        return list(walk.glob(top, pattern, folders=walk.entry.endswith("/")))
    if top.kind is Kind.FOLDER:
        walk.check_above(top)
        return list(walk.folder(top))
    if top.kind is Kind.SPECIAL or path.startswith(PROCESS_PATHS):
        raise special_file(walk.label(path), top.what or "a stream")
    return [Candidate(top, ())]


def _split_pattern(path: str, walk: Walk) -> tuple[Node | None, tuple[str, ...]]:
    """Split a path before its first part that is a pattern: the folder, and the other parts."""
    is_web = path.startswith(tuple(f"{scheme}://" for scheme in WEB))
    wildcards = "*[" if is_web else "*?["  # in a web URL, ? begins the query
    parts = path.split("/")
    first = next(
        (n for n, part in enumerate(parts) if any(wildcard in part for wildcard in wildcards)), None
    )
    if first is None:
        return None, ()
    prefix = "/".join(parts[:first]) or ("/" if path.startswith("/") else "")
    if is_web:  # the web has no folders, only pages with links
        return Node("", prefix, Kind.FOLDER, prefix), tuple(parts[first:])
    top = walk.tree.node(prefix)
    return (top if top and top.kind is Kind.FOLDER else None), tuple(parts[first:])


def _output_below(path: str, output: Path) -> str:
    """Real path of the run's output folder; "" if `path` itself is inside it."""
    real_output, real_path = os.path.realpath(output), os.path.realpath(path)
    return "" if os.path.commonpath([real_output, real_path]) == real_output else real_output


def _check_name(name: str) -> None:
    try:
        name.encode("utf-8")
    except UnicodeEncodeError as error:
        raise CorpusError(
            f"{printable(name)}: a file name that is not UTF-8 cannot be written to predictions",
            hint="rename the file",
        ) from error


def _hint(entry: str) -> str:
    if any(wildcard in redacted(entry) for wildcard in "*?["):
        return "the glob matches nothing; quote it, so that the shell does not expand it"
    path = Path(entry)
    if path.is_dir():
        return f"a folder is searched for {', '.join(SUFFIXES)}"
    if "://" not in entry and path.parent.is_dir():
        close = nearest(path.name, (sibling.name for sibling in path.parent.iterdir()))
        if close:
            return f"did you mean {printable(close)!r}?"
    return "check the path"
