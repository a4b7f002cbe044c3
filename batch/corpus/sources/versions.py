"""Versions of files, by facts of the file system or store that change with the content."""

from __future__ import annotations

import os
import re
import stat
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from fsspec import AbstractFileSystem

from schemas.errors import CorpusError
from schemas.printable import printable

TICK_S = 2.0
"""Coarsest timestamp resolution of a file system (FAT). Two changes within it may have one time."""
CONTENT_FACTS = re.compile(
    r"etag|md5|crc\w*|sha\d*|checksum|hash|digest|generation|version(id)?|oid|blobid|rev"
)
MODIFIED_FACTS = re.compile(r"mtime|modif\w*|updated|writetime|datetime")
CREATED_FACTS = re.compile(r"created?|creationtime")
WEAK_FACTS = frozenset({"size", "ino"})
"""Facts that may stay the same when the content changes."""
NOT_FACTS = frozenset({"createversion", "extractversion", "metageneration"})

CheckStop = Callable[[], None]


def never_stop() -> None:
    """A `CheckStop` that never raises."""


@dataclass(frozen=True)
class FileVersion:
    """Facts that identify the content of a file without reading it.

    facts: names and values, sorted by name.
    is_settled: False if the content may change without a change of the facts: the file was written
    within the last tick of the clock, or the store reports only a size.
    """

    facts: tuple[tuple[str, str | int], ...]
    is_settled: bool = field(default=True, compare=False)

    @property
    def size(self) -> int | None:
        """Bytes of the file; None if the store does not report them."""
        value = dict(self.facts).get("size")
        return value if isinstance(value, int) else None

    @property
    def is_size_only(self) -> bool:
        """True if the store reports nothing that changes whenever the content does."""
        return all(name in WEAK_FACTS for name, _ in self.facts)

    def check(self, now: FileVersion, label: str) -> None:
        """Compare with a later version. Raises CorpusError if a fact of both differs."""
        if now.facts == self.facts:
            return
        facts_now = dict(now.facts)
        changed = [
            printable(f"{name} {value} became {facts_now[name]}")
            for name, value in self.facts
            if name in facts_now and facts_now[name] != value
        ]
        if changed:
            raise CorpusError(
                f"{label}: changed since the run began ({', '.join(changed)})",
                hint="wait until nothing writes to the corpus, then run again with --overwrite, "
                "because finished parts belong to the old version",
            )


def local_version(facts: os.stat_result) -> FileVersion:
    """The version of a local file, which changes with its name, content or times.

    The device number is not part of it, because remounting a network folder changes that.
    """
    now = time.time()
    changed_s, modified_s = now - facts.st_ctime_ns / 1e9, now - facts.st_mtime_ns / 1e9
    return FileVersion(
        (
            ("ctime_ns", facts.st_ctime_ns),
            ("inode", facts.st_ino),
            ("mtime_ns", facts.st_mtime_ns),
            ("size", facts.st_size),
        ),
        # mtime can be set to any value, even in the future; some file systems have no ctime.
        is_settled=changed_s > TICK_S and abs(modified_s) > TICK_S,
    )


def remote_version(
    filesystem: AbstractFileSystem, path: str, check_stop: CheckStop = never_stop
) -> FileVersion:
    """The version of a file in a store, by all stable facts that the store reports.

    If the only fact is a time in whole seconds, a file written just now may change again within the
    same second: this waits until that second is over.
    """
    until = time.monotonic() + 2 * TICK_S  # some servers always report the current time
    while True:
        check_stop()
        facts = _remote_facts(filesystem, path)
        if not _is_within_tick(facts) or time.monotonic() > until:
            return _version(facts)
        time.sleep(0.1)


def remote_version_now(filesystem: AbstractFileSystem, path: str) -> FileVersion:
    """The current version of a file in a store, without waiting and without the client's cache."""
    filesystem.invalidate_cache(path)
    return _version(_remote_facts(filesystem, path))


def version_of_handle(handle: object) -> FileVersion:
    """The version that an open handle reads; it has no facts if the handle reports none."""
    details = getattr(handle, "details", None)
    return _version(_stable_facts(details) if isinstance(details, Mapping) else {})


def describe_kind(mode: int) -> str:
    """Description of a path that is not a regular file, by its mode."""
    kinds = {
        stat.S_IFIFO: "a pipe (FIFO)",
        stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a character device",
        stat.S_IFBLK: "a block device",
        stat.S_IFDIR: "a folder",
    }
    return kinds.get(stat.S_IFMT(mode), "of an unknown kind")


def _version(facts: Mapping[str, object]) -> FileVersion:
    version = tuple(sorted((name, _plain(value)) for name, value in facts.items()))
    return FileVersion(version, is_settled=any(name not in WEAK_FACTS for name, _ in version))


def _remote_facts(filesystem: AbstractFileSystem, path: str) -> dict[str, object]:
    facts = _stable_facts(filesystem.info(path))
    if not any(_is(CONTENT_FACTS, name) or _is(MODIFIED_FACTS, name) for name in facts):
        facts |= _modified(filesystem, path)
    return facts


def _stable_facts(info: Mapping[str, object]) -> dict[str, object]:
    """The entries of `info` that identify a version, with names normalized across stores."""
    facts: dict[str, object] = {}
    for name, value in info.items():
        key = re.sub(r"[^a-z0-9]", "", str(name).lower())
        patterns = (CONTENT_FACTS, MODIFIED_FACTS, CREATED_FACTS)
        is_fact = key in WEAK_FACTS or any(_is(pattern, key) for pattern in patterns)
        if is_fact and key not in NOT_FACTS and value is not None:
            facts[key] = value
    return facts


def _is(pattern: re.Pattern[str], name: str) -> bool:
    """True if a name matches the pattern at its end, such as `contentmd5`, `lastmodified`."""
    return re.fullmatch(rf"\w*?(?:{pattern.pattern})", name) is not None


def _modified(filesystem: AbstractFileSystem, path: str) -> dict[str, object]:
    try:
        return {"modified": filesystem.modified(path)}
    except (NotImplementedError, KeyError, TypeError):
        return {}


def _plain(value: object) -> str | int:
    if isinstance(value, bool) or not isinstance(value, int):
        return value.isoformat() if isinstance(value, datetime) else str(value)
    return value


def _is_within_tick(facts: Mapping[str, object]) -> bool:
    if any(_is(CONTENT_FACTS, name) for name in facts):
        return False
    values = [_timestamp(value) for name, value in facts.items() if _is(MODIFIED_FACTS, name)]
    timestamps = [timestamp for timestamp in values if timestamp is not None]
    if not timestamps or any(timestamp != int(timestamp) for timestamp in timestamps):
        return False
    return abs(time.time() - max(timestamps)) < TICK_S


def _timestamp(value: object) -> float | None:
    """Seconds since 1970 of a time in the formats that stores use."""
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
    if isinstance(value, int | float):
        return float(value)
    for parse in (parsedate_to_datetime, datetime.fromisoformat):
        try:
            return _timestamp(parse(str(value)))
        except ValueError:
            continue
    return None
