"""What a corpus entry stands for: the data files of a folder or glob, and what is left out."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from batch.corpus.names import (
    HIDDEN,
    ICEBERG_FOLDER,
    ICEBERG_SUFFIX,
    NO_SUFFIX,
    check_no_table,
    is_hidden,
    is_parquet_name,
    reason_to_skip,
    table_format_of,
)
from batch.corpus.tree import Kind, Node, Tree
from batch.corpus.urls import library_errors
from batch.corpus.versions import CheckStop
from schemas.errors import CorpusError

MAX_DEPTH = 100
"""Folders inside each other; more is a loop of links that the store does not show."""
MAGIC = b"PAR1", b"PARE"
ANY_DEPTH = "**"


@dataclass(frozen=True)
class Candidate:
    """A data file, and the folders between it and what was named."""

    node: Node
    folders: tuple[str, ...]


@dataclass(frozen=True)
class _Folder:
    """A folder to be listed.

    names: of the folders from what was named down to it. above: real paths of it and of those.
    """

    node: Node
    names: tuple[str, ...]
    above: frozenset[str]


@dataclass
class Walk:
    """Looks through the folders of one corpus entry.

    label: gives the name of a path for messages. leave_out: called with what is left out and why.
    output: real path of the run's own output, left out without a word; "" for none.
    """

    tree: Tree
    entry: str
    label: Callable[[str], str]
    leave_out: Callable[[str, str], None]
    check_stop: CheckStop
    output: str = ""
    _listings: dict[str, list[Node]] = field(default_factory=dict)

    def folder(self, top: Node, names: tuple[str, ...] = ()) -> Iterator[Candidate]:
        """The data files of a folder and of all below it; links last, so that they lose."""
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
            below = []
            for child in self._children(folder.node):
                if child.kind is Kind.FOLDER:
                    below.append(child)
                elif self._is_data(child):
                    yield Candidate(child, folder.names)
            for opened in self._opened(folder, below):
                (linked if opened.node.is_linked else direct).append(opened)

    def glob(self, top: Node, pattern: tuple[str, ...], *, folders: bool) -> Iterator[Candidate]:
        """The data files that a pattern below `top` stands for; of a folder that it matches, all.

        folders: match folders only, as a pattern with a slash at its end does.
        """
        pending = deque([(_Folder(top, (), frozenset({top.real})), pattern)])
        matched: set[str] = set()
        while pending:
            folder, (part, *rest) = pending.popleft()
            if part == ANY_DEPTH:  # no folder in between, or any of these
                pending.append((folder, tuple(rest) or ("*",)))
                below = [each for each in self._children(folder.node) if each.kind is Kind.FOLDER]
                pending += [(each, (part, *rest)) for each in self._opened(folder, below)]
                continue
            children = [
                child
                for child in self._children(folder.node)
                if fnmatchcase(child.name, part) and (rest or child.path not in matched)
            ]
            opened = self._opened(folder, [c for c in children if c.kind is Kind.FOLDER], part)
            if rest:
                pending += [(each, tuple(rest)) for each in opened]
                continue
            matched |= {child.path for child in children}
            for each in opened:
                yield from self.folder(each.node, each.names)
            for child in children if not folders else ():
                if child.kind is not Kind.FOLDER and self._is_data(child, part):
                    yield Candidate(child, folder.names)

    def _children(self, folder: Node) -> list[Node]:
        """What lies in a folder that is not a table of a table format."""
        if folder.path in self._listings:
            return self._listings[folder.path]
        children = []
        for child in self.tree.children(folder):
            self.check_stop()
            children.append(child)
        check_no_table(self.label(folder.path), self._table_format(children))
        self._listings[folder.path] = children
        return children

    def _table_format(self, children: list[Node]) -> str | None:
        folders = {child.name: child for child in children if child.kind is Kind.FOLDER}
        if ICEBERG_FOLDER in folders:
            inside = self.tree.children(folders[ICEBERG_FOLDER])
            if any(node.name.endswith(ICEBERG_SUFFIX) for node in inside):
                return "Iceberg"
        return table_format_of(folders)

    def _hide(self, child: Node) -> bool:
        """Note a hidden folder or Parquet file; other hidden files are marks of writers."""
        if child.kind is Kind.FOLDER:
            self.leave_out(f"{child.path}/", HIDDEN)
        elif is_parquet_name(child.name):
            self.leave_out(child.path, HIDDEN)
        return False

    def _opened(
        self, folder: _Folder, children: Sequence[Node], part: str = ""
    ) -> Iterator[_Folder]:
        """The folders among `children` to be looked into. part: of a glob, that matched them."""
        for child in children:
            if child.real == self.output:
                continue
            if is_hidden(child.name) and not part.startswith((".", "_")):
                self._hide(child)
            elif child.real in folder.above:
                self.leave_out(f"{child.path}/", "links back to a folder that it lies in")
            else:
                names = (*folder.names, child.name)
                if len(names) > MAX_DEPTH:
                    raise CorpusError(
                        f"{self.label(child.path)}: lies deeper than {MAX_DEPTH} folders",
                        hint="does a link point back to a folder above it?",
                    )
                yield _Folder(child, names, folder.above | {child.real})

    def _is_data(self, child: Node, part: str = "") -> bool:
        """True for a file to be read; another one is noted. part: of a glob, that matched it."""
        if is_hidden(child.name) and not part.startswith((".", "_")):
            return self._hide(child)
        label = self.label(child.path)
        if child.kind is Kind.DANGLING:
            raise CorpusError(
                f"{label}: is a link to something that does not exist",
                hint="restore what it points to, or remove the link",
            )
        reason = None if _names_suffix(part) else reason_to_skip(child.name)
        if child.kind is Kind.SPECIAL:
            if reason is None:
                raise special_file(label, child.what)
            reason = f"{child.what}, not a regular file"
        if reason is None and "." not in child.name and not self._has_magic(child):
            reason = NO_SUFFIX
        if reason is not None:
            self.leave_out(child.path, reason)
        return reason is None

    def _has_magic(self, child: Node) -> bool:
        with library_errors(self.entry, f"{self.label(child.path)} cannot be read"):
            head: bytes = self.tree.filesystem.cat_file(child.path, start=0, end=4)
        return head in MAGIC


def special_file(label: str, what: str) -> CorpusError:
    """The error for what is neither a file nor a folder; opening it might wait for ever."""
    return CorpusError(
        f"{label}: is {what or 'of an unknown kind'}, not a regular file",
        hint="write its content to a file and name that",
    )


def _names_suffix(part: str) -> bool:
    """True if a pattern says itself how names end, as `*.data` does."""
    stem, dot, suffix = part.rpartition(".")
    return bool(dot and stem and suffix) and not any(sign in suffix for sign in "*?[]")
