"""Traversal of a corpus entry: the data files of a folder or glob, and the files left out."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import PurePosixPath

from batch.corpus.sources.names import (
    HIDDEN,
    ICEBERG_FOLDER,
    ICEBERG_SUFFIX,
    NO_SUFFIX,
    TABLE_FORMATS,
    check_no_table,
    is_hidden,
    is_parquet_name,
    reason_to_skip,
    table_format_of,
)
from batch.corpus.sources.tree import Kind, Node, Tree
from batch.corpus.sources.urls import library_errors
from schemas.errors import CorpusError

MAX_DEPTH = 100
"""Maximum nesting of folders; more is a loop of links that the store does not report."""
MAGIC = b"PAR1", b"PARE"
ANY_DEPTH = "**"


@dataclass(frozen=True)
class Candidate:
    """A data file, and the names of the folders between the named path and the file."""

    node: Node
    folders: tuple[str, ...]


@dataclass(frozen=True)
class _Folder:
    """A folder to list.

    names: of the folders from the named path down to it. above: real paths of all of these.
    """

    node: Node
    names: tuple[str, ...]
    above: frozenset[str]


@dataclass
class Walk:
    """Traversal of the folders of one corpus entry.

    label: returns the name of a path for messages. leave_out: called with the path of a file or
    folder that is left out, and the reason.
    output: real path of the run's own output, which is skipped without a note; "" for none.
    """

    tree: Tree
    entry: str
    label: Callable[[str], str]
    leave_out: Callable[[str, str], None]
    output: str = ""
    _checked: set[str] = field(default_factory=set)
    _listings: dict[str, Sequence[Node]] = field(default_factory=dict)

    def folder(self, top: Node, names: tuple[str, ...] = ()) -> Iterator[Candidate]:
        """The data files of a folder and all its subfolders; linked folders come last.

        Of a folder that is reached directly and through a link, the direct path is thus used.
        """
        seen: set[tuple[str, tuple[str, ...]]] = set()
        direct = deque([_Folder(top, names, frozenset({top.real}))])
        linked: deque[_Folder] = deque()
        while direct or linked:
            folder = direct.popleft() if direct else linked.popleft()
            keys = tuple(name for name in folder.names if "=" in name)
            if (folder.node.real, keys) in seen:
                self.leave_out(f"{folder.node.path}/", "links to a folder that is read already")
                continue
            seen.add((folder.node.real, keys))
            children = self._children(folder.node)
            for child in children:
                if child.kind is not Kind.FOLDER and self._is_data(child):
                    yield Candidate(child, folder.names)
            for below in self._opened(folder, children):
                (linked if below.node.is_linked else direct).append(below)

    def glob(self, top: Node, pattern: tuple[str, ...], *, folders: bool) -> Iterator[Candidate]:
        """The data files that match a pattern below `top`, and all files of matching folders.

        folders: match folders only, as for a pattern with a slash at its end.
        """
        pending = deque([(_Folder(top, (), frozenset({top.real})), pattern)])
        matched: set[str] = set()
        while pending:
            folder, (part, *rest) = pending.popleft()
            children = self._children(folder.node)
            if part == ANY_DEPTH:
                if not rest:
                    yield from self.folder(folder.node, folder.names)
                    continue
                pending.append((folder, tuple(rest)))  # `**` matches no folder, or any of these
                pending += [(below, (part, *rest)) for below in self._opened(folder, children)]
                continue
            children = [child for child in children if fnmatchcase(child.name, part)]
            if rest:
                pending += [(below, tuple(rest)) for below in self._opened(folder, children, part)]
                continue
            children = [child for child in children if child.path not in matched]
            matched |= {child.path for child in children}
            for below in self._opened(folder, children, part):
                yield from self.folder(below.node, below.names)
            for child in children if not folders else ():
                if child.kind is not Kind.FOLDER and self._is_data(child, part):
                    yield Candidate(child, folder.names)

    def _children(self, folder: Node) -> Sequence[Node]:
        """The nodes in a folder. Raises CorpusError if it is a table of a table format."""
        if folder.path in self._listings:
            return self._listings[folder.path]
        children = self.tree.children(folder)
        check_no_table(self.label(folder.path), self._table_format(children))
        self._listings[folder.path] = children
        return children

    def _table_format(self, children: Sequence[Node]) -> str | None:
        folders = {child.name: child for child in children if child.kind is Kind.FOLDER}
        if ICEBERG_FOLDER in folders:
            metadata = self.tree.children(folders[ICEBERG_FOLDER])
            if any(node.name.endswith(ICEBERG_SUFFIX) for node in metadata):
                return "Iceberg"
        return table_format_of(folders)

    def check_above(self, node: Node) -> None:
        """Refuse a folder inside a table of a table format, such as one of its partitions."""
        if "://" in node.path:  # the web has no folders
            return
        for folder in {*PurePosixPath(node.path).parents, *PurePosixPath(node.real).parents}:
            if str(folder) not in self._checked:
                self._checked.add(str(folder))
                check_no_table(self.label(str(folder)), self._table_format_above(folder))

    def _table_format_above(self, folder: PurePosixPath) -> str | None:
        filesystem = self.tree.filesystem
        with suppress(OSError):  # there may be no permission to list the parents of a named path
            metadata = str(folder / ICEBERG_FOLDER)
            if filesystem.isdir(metadata):
                names = filesystem.ls(metadata, detail=False)
                if any(str(name).endswith(ICEBERG_SUFFIX) for name in names):
                    return "Iceberg"
        return table_format_of(
            mark for mark in TABLE_FORMATS if filesystem.isdir(str(folder / mark))
        )

    def _hide(self, child: Node) -> bool:
        """Note a hidden folder or Parquet file; other hidden files are markers of writers."""
        if child.kind is Kind.FOLDER:
            self.leave_out(f"{child.path}/", HIDDEN)
        elif is_parquet_name(child.name):
            self.leave_out(child.path, HIDDEN)
        return False

    def _opened(
        self, folder: _Folder, children: Sequence[Node], part: str = ""
    ) -> Iterator[_Folder]:
        """The folders among `children` to list. part: the part of a glob that matched them."""
        for child in children:
            self._check_target(child)
            if child.kind is not Kind.FOLDER or child.real == self.output:
                continue
            if is_hidden(child.name) and not part.startswith((".", "_")):
                self._hide(child)
            elif child.real in folder.above:
                self.leave_out(f"{child.path}/", "links back to a folder that contains it")
            else:
                names = (*folder.names, child.name)
                if len(names) > MAX_DEPTH:
                    raise CorpusError(
                        f"{self.label(child.path)}: is nested more than {MAX_DEPTH} folders deep",
                        hint="does a link point back to a folder above it?",
                    )
                if child.is_linked:
                    self.check_above(child)
                yield _Folder(child, names, folder.above | {child.real})

    def _is_data(self, child: Node, part: str = "") -> bool:
        """True for a file to read; others are noted. part: the part of a glob that matched it."""
        if is_hidden(child.name) and not part.startswith((".", "_")):
            return self._hide(child)
        self._check_target(child)
        reason = None if _names_suffix(part) else reason_to_skip(child.name)
        if child.kind is Kind.SPECIAL:
            if reason is None:
                raise special_file(self.label(child.path), child.what)
            reason = f"{child.what}, not a regular file"
        if reason is None and "." not in child.name and not self._has_magic(child):
            reason = NO_SUFFIX
        if reason is not None:
            self.leave_out(child.path, reason)
        return reason is None

    def _check_target(self, child: Node) -> None:
        """Raise CorpusError for a link without a target, which may have been a folder of data."""
        if child.kind is Kind.DANGLING and not is_hidden(child.name):
            raise CorpusError(
                f"{self.label(child.path)}: is a link to something that does not exist",
                hint="restore what it points to, or remove the link",
            )

    def _has_magic(self, child: Node) -> bool:
        with library_errors(child.path, "cannot be read", self.label(child.path)):
            head: bytes = self.tree.filesystem.cat_file(child.path, start=0, end=4)
        return head in MAGIC


def special_file(label: str, what: str) -> CorpusError:
    """The error for a path that is neither a file nor a folder; opening it might block forever."""
    return CorpusError(
        f"{label}: is {what or 'of an unknown kind'}, not a regular file",
        hint="write its content to a file and name that",
    )


def _names_suffix(part: str) -> bool:
    """True if a pattern has a literal suffix, as in `*.data`."""
    stem, dot, suffix = part.rpartition(".")
    return bool(dot and stem and suffix) and not any(wildcard in suffix for wildcard in "*?[]")
