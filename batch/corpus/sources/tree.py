"""Folder listings of any file system behind one interface, with links followed."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import PurePosixPath
from typing import Protocol

from fsspec import AbstractFileSystem
from fsspec.asyn import AsyncFileSystem

from batch.corpus.sources.urls import is_local, label_of, library_errors, plain_reason
from batch.corpus.sources.versions import (
    CheckStop,
    FileVersion,
    describe_kind,
    local_version,
    never_stop,
)
from schemas.errors import CorpusError


class Kind(Enum):
    """Type of a directory entry, links followed."""

    FILE = auto()
    FOLDER = auto()
    SPECIAL = auto()
    DANGLING = auto()


@dataclass(frozen=True)
class Node:
    """A file or folder.

    real: its path with every link resolved. is_linked: it was reached through a link.
    what: description of a special file. version: of a local file.
    """

    name: str
    path: str
    kind: Kind
    real: str
    is_linked: bool = False
    what: str = ""
    version: FileVersion | None = None


class Tree(Protocol):
    """The folders that one corpus entry may reach."""

    filesystem: AbstractFileSystem

    def node(self, path: str) -> Node | None:
        """The node at a path; None if there is none. Raises CorpusError if it is not readable."""

    def children(self, folder: Node) -> Sequence[Node]:
        """The nodes in a folder, sorted by name. Raises CorpusError if it cannot be listed."""


def open_tree(
    filesystem: AbstractFileSystem, entry: str, check_stop: CheckStop = never_stop
) -> Tree:
    """The tree of a corpus entry. check_stop: called for every name that is listed."""
    if is_local(filesystem):
        return LocalTree(filesystem, check_stop)
    is_flat = type(filesystem).find is not AbstractFileSystem.find
    if isinstance(filesystem, AsyncFileSystem):
        is_flat = type(filesystem)._find is not AsyncFileSystem._find
    tree = FlatTree if is_flat else StoreTree
    return tree(filesystem, entry, check_stop)


class LocalTree:
    """Folders of this machine: one `stat` per name."""

    def __init__(self, filesystem: AbstractFileSystem, check_stop: CheckStop) -> None:
        self.filesystem = filesystem
        self._check_stop = check_stop

    def node(self, path: str) -> Node | None:
        try:
            facts = os.stat(path)  # noqa: PTH116
        except (FileNotFoundError, NotADirectoryError):
            if os.path.lexists(path):
                raise _dangling(path) from None
            return None
        except (OSError, ValueError) as error:  # ValueError: a null byte in the name
            raise _unreadable(path, error) from error
        real = os.path.realpath(path)
        return _local_node(PurePosixPath(path).name, path, real, facts, linked=False)

    def children(self, folder: Node) -> Sequence[Node]:
        nodes = []
        try:
            with os.scandir(folder.path) as entries:
                for entry in entries:
                    self._check_stop()
                    node = self._child(folder, entry)
                    if node is not None:
                        nodes.append(node)
        except OSError as error:
            raise _unreadable(folder.path, error) from error
        return sorted(nodes, key=lambda node: node.name)

    def _child(self, folder: Node, entry: os.DirEntry[str]) -> Node | None:
        link = entry.is_symlink()
        path = f"{folder.path.rstrip('/')}/{entry.name}"
        try:
            facts = entry.stat()
        except FileNotFoundError:
            if not link:
                return None  # deleted while the folder was listed
            return Node(entry.name, path, Kind.DANGLING, path, is_linked=True)
        except OSError as error:  # a loop of links, a folder without permission to enter it
            raise _unreadable(path, error) from error
        real = os.path.realpath(path) if link else f"{folder.real.rstrip('/')}/{entry.name}"
        return _local_node(entry.name, path, real, facts, linked=link or folder.is_linked)


class StoreTree:
    """Folders of a store that is listed folder by folder.

    fsspec's own `find` silently skips folders without permission, hence one `ls` per folder.
    """

    def __init__(self, filesystem: AbstractFileSystem, entry: str, check_stop: CheckStop) -> None:
        self.filesystem = filesystem
        self._entry, self._check_stop = entry, check_stop

    def node(self, path: str) -> Node | None:
        with library_errors(self._entry, "cannot be read"):
            try:
                return _store_node(path, self.filesystem.info(path))
            except (FileNotFoundError, NotADirectoryError) as error:
                if _is_absent(error):
                    return None
                raise

    def children(self, folder: Node) -> Sequence[Node]:
        with library_errors(self._entry, _not_listed(folder.path)):
            listed = self.filesystem.ls(folder.path, detail=True)
        nodes = {}
        for info in listed:
            self._check_stop()
            path = str(info["name"])
            if path.strip("/") != folder.path.strip("/"):  # some stores list the folder itself
                node = _store_node(path, info)
                nodes[node.name] = self._resolved(node) if node.kind is Kind.SPECIAL else node
        return [nodes[name] for name in sorted(nodes)]

    def _resolved(self, node: Node) -> Node:
        """The node that a link points to: some listings call links neither files nor folders."""
        try:
            resolved = self.node(node.path)
        except CorpusError:
            if node.what == "link":
                raise
            return node
        if resolved is None:
            return Node(node.name, node.path, Kind.DANGLING, node.path, is_linked=True)
        return Node(
            node.name, node.path, resolved.kind, node.path, is_linked=True, what=resolved.what
        )


class FlatTree(StoreTree):
    """Folders of a store that lists all keys below a prefix at once, a thousand per request.

    The first folder that is requested is listed with everything below it.
    """

    def __init__(self, filesystem: AbstractFileSystem, entry: str, check_stop: CheckStop) -> None:
        super().__init__(filesystem, entry, check_stop)
        self._folders: dict[str, dict[str, Node]] = {}

    def children(self, folder: Node) -> Sequence[Node]:
        path = folder.path.rstrip("/")
        if path not in self._folders:
            with library_errors(self._entry, _not_listed(path)):
                listed = self.filesystem.find(path, detail=True)
            self._folders[path] = {}
            for name, info in listed.items():
                self._check_stop()
                self._add(path, str(name), info)
        nodes = self._folders[path]
        return [nodes[name] for name in sorted(nodes)]

    def _add(self, top: str, path: str, info: Mapping[str, object]) -> None:
        *folders, name = path[len(top) :].strip("/").split("/")
        if not name:
            return
        parent = top
        for folder in folders:
            child = f"{parent}/{folder}" if parent else folder
            self._folders[parent].setdefault(folder, Node(folder, child, Kind.FOLDER, child))
            self._folders.setdefault(child, {})
            parent = child
        self._folders[parent][name] = _store_node(path, info)


def _local_node(name: str, path: str, real: str, facts: os.stat_result, *, linked: bool) -> Node:
    if stat.S_ISREG(facts.st_mode):
        return Node(name, path, Kind.FILE, real, linked, version=local_version(facts))
    if stat.S_ISDIR(facts.st_mode):
        return Node(name, path, Kind.FOLDER, real, linked)
    return Node(name, path, Kind.SPECIAL, real, linked, what=describe_kind(facts.st_mode))


def _store_node(path: str, info: Mapping[str, object]) -> Node:
    kinds = {"file": Kind.FILE, "directory": Kind.FOLDER}
    bare = path.rstrip("/")
    what = str(info.get("type"))
    kind = kinds.get(what, Kind.SPECIAL)
    return Node(
        bare.rpartition("/")[2], bare if kind is Kind.FOLDER else path, kind, path, what=what
    )


def _is_absent(error: OSError) -> bool:
    """True if the path does not exist; fsspec's HTTP raises "not found" for every failure."""
    cause = error.__cause__
    if cause is None or isinstance(cause, KeyError | FileNotFoundError):
        return True
    response = getattr(cause, "response", cause)
    return 404 in (getattr(response, "status", None), getattr(response, "status_code", None))


def _not_listed(path: str) -> str:
    return f"{label_of(path) or '/'} cannot be listed"


def _dangling(path: str) -> CorpusError:
    return CorpusError(
        f"{label_of(path)}: is a link to something that does not exist",
        hint="restore what it points to, or remove the link",
    )


def _unreadable(path: str, error: Exception) -> CorpusError:
    return CorpusError(
        f"{label_of(path)}: cannot be read: {plain_reason(error)}",
        hint="nothing is left out silently: make it readable, or name only the files to score",
    )
