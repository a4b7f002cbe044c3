"""Versions of files: what the file system or the store says changes when the content does."""

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
"""Coarsest clock of a file system in use (FAT). Two changes within it may leave the same time."""
CONTENT_FACTS = re.compile(
    r"etag|md5|crc\w*|sha\d*|checksum|hash|digest|generation|version(id)?|oid|blobid|rev"
)
MODIFIED_FACTS = re.compile(r"mtime|modif\w*|updated|writetime|datetime")
CREATED_FACTS = re.compile(r"created?|creationtime")
PLACE_FACTS = frozenset({"size", "ino"})
NOT_FACTS = frozenset({"createversion", "extractversion", "metageneration"})

CheckStop = Callable[[], None]


def never_stop() -> None:
    """Stand in for a stop switch where nothing stops."""


@dataclass(frozen=True)
class FileVersion:
    """What identifies the content of a file without reading it.

    facts: names and values, in the order of their names.
    is_settled: False if the content may change without any of the facts changing: it was written
    within the last tick of the clock, or the store says nothing but a size.
    """

    facts: tuple[tuple[str, str | int], ...]
    is_settled: bool = field(default=True, compare=False)

    @property
    def size(self) -> int | None:
        """Bytes of the file; None if the store does not say."""
        value = dict(self.facts).get("size")
        return value if isinstance(value, int) else None

    @property
    def is_size_only(self) -> bool:
        """True if the store says nothing that would change when the content does."""
        return all(name in PLACE_FACTS for name, _ in self.facts)

    def check(self, now: FileVersion, label: str) -> None:
        """Compare with the version of later. Raises CorpusError if a fact of both differs."""
        if now.facts == self.facts:
            return
        later = dict(now.facts)
        changed = [
            printable(f"{name} {value} became {later[name]}")
            for name, value in self.facts
            if name in later and later[name] != value
        ]
        if changed:
            raise CorpusError(
                f"{label}: changed since the run began ({', '.join(changed)})",
                hint="wait until nothing writes to the corpus, then run again; what is finished "
                "belongs to the old version, so that --overwrite is needed",
            )


def local_version(facts: os.stat_result) -> FileVersion:
    """The version of a file on this machine. Changes of name, content or time change it.

    The device number is left out: remounting a network folder changes it.
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
        # Anyone may set mtime, even to next year; where there is no ctime it is all there is.
        is_settled=changed_s > TICK_S and abs(modified_s) > TICK_S,
    )


def remote_version(
    filesystem: AbstractFileSystem, path: str, check_stop: CheckStop = never_stop
) -> FileVersion:
    """The version of a file in a store, by everything stable that the store says of it.

    Where times are in whole seconds and nothing else is known, a file written just now may change
    within the same second: this waits until that second is over.
    """
    until = time.monotonic() + 2 * TICK_S  # some servers say "now" each time
    while True:
        check_stop()
        facts = _remote_facts(filesystem, path)
        if not _is_within_tick(facts) or time.monotonic() > until:
            return _version(facts)
        time.sleep(0.1)


def remote_version_now(filesystem: AbstractFileSystem, path: str) -> FileVersion:
    """The same at once, and not from what the client remembers of an earlier listing."""
    filesystem.invalidate_cache(path)
    return _version(_remote_facts(filesystem, path))


def version_of_handle(handle: object) -> FileVersion:
    """What an open handle says of the version that it reads; without facts if nothing."""
    details = getattr(handle, "details", None)
    return _version(_stable_facts(details) if isinstance(details, Mapping) else {})


def describe_kind(mode: int) -> str:
    """What something that is not a regular file is called."""
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
    return FileVersion(version, is_settled=any(name not in PLACE_FACTS for name, _ in version))


def _remote_facts(filesystem: AbstractFileSystem, path: str) -> dict[str, object]:
    facts = _stable_facts(filesystem.info(path))
    if not any(_is(CONTENT_FACTS, name) or _is(MODIFIED_FACTS, name) for name in facts):
        facts |= _modified(filesystem, path)
    return facts


def _stable_facts(info: Mapping[str, object]) -> dict[str, object]:
    """The entries of `info` that name a version, by names alike for all stores."""
    facts: dict[str, object] = {}
    for name, value in info.items():
        plain = re.sub(r"[^a-z0-9]", "", str(name).lower())
        patterns = (CONTENT_FACTS, MODIFIED_FACTS, CREATED_FACTS)
        known = plain in PLACE_FACTS or any(_is(pattern, plain) for pattern in patterns)
        if known and plain not in NOT_FACTS and value is not None:
            facts[plain] = value
    return facts


def _is(pattern: re.Pattern[str], name: str) -> bool:
    """True if a name is, or ends in, a name of the pattern: `contentmd5`, `lastmodified`."""
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
    moments = [_moment(value) for name, value in facts.items() if _is(MODIFIED_FACTS, name)]
    coarse = [moment for moment in moments if moment is not None]
    if not coarse or any(moment != int(moment) for moment in coarse):
        return False
    return abs(time.time() - max(coarse)) < TICK_S


def _moment(value: object) -> float | None:
    """Seconds since 1970 of a time as stores write it."""
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
    if isinstance(value, int | float):
        return float(value)
    for parse in (parsedate_to_datetime, datetime.fromisoformat):
        try:
            return _moment(parse(str(value)))
        except ValueError:
            continue
    return None
