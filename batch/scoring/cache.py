"""Logits that are known already: a text is run once ever by the same model, whatever run it is in.

Bits depend on the text's tokens, on the model, and on the shape of its batch, which follows from
its length and the batch size. A key holds all of it, and an entry its own checksum, so that the
cache gives the very bits of a run without it or nothing. No fault of the cache ends a run.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
from filelock import FileLock

from batch.scoring.private_folder import make_private, require_private
from schemas.arrays import Float32Array, Int32Array

Note = Callable[[str], None]
Result = TypeVar("Result")

BUSY_TIMEOUT_S = 30
CHECKSUM_BYTES = 8
ENTRIES_AT_ONCE = 64
"""Entries added before room is made for them: how far the file may grow beyond its size."""

FILES = ("lock", "logits-*")
"""What a cache has in its folder, journals included."""

LOCK_MODE = 0o644
"""Of the lock file whatever the umask, as SQLite makes its own files."""

LAYOUT = 1
"""`user_version` of the database; a file of another layout is replaced."""

COST = "((coalesce(length({0}.value), 0) + 92) * 8 / 5 + (length({0}.value) > 900) * 4096)"
"""Bytes of an entry on disk: its key twice (in the table and in the index), some headers, its share
of pages that are two thirds full, as those of a B-tree with random keys are, and a page of its own
for what is too long to stand beside others."""

SCHEMA = f"""
CREATE TABLE entries (key BLOB PRIMARY KEY, used INTEGER, value BLOB) WITHOUT ROWID;
CREATE INDEX by_use ON entries (used);
CREATE TABLE size (bytes INTEGER);
INSERT INTO size VALUES (0);
CREATE TRIGGER added AFTER INSERT ON entries
BEGIN UPDATE size SET bytes = bytes + {COST.format("new")}; END;
CREATE TRIGGER removed AFTER DELETE ON entries
BEGIN UPDATE size SET bytes = bytes - {COST.format("old")}; END;
PRAGMA user_version = {LAYOUT};
"""

FAULTS = (sqlite3.Error, OSError, MemoryError, UnicodeError)
"""What a file or its disk can do: sqlite3 fails to decode the names in a damaged schema, and asks
for absurd amounts of memory where a length is damaged."""

TRANSIENT = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_PROTOCOL,
}
"""Primary error codes that say nothing against the file itself."""


class LogitCache:
    """Logits by text, for one model, in an SQLite file that other runs may use at the same time.

    identity: of the model. max_bytes: of the file, which has a journal of a few megabytes beside it
    while it is open; what was used longest ago goes first.
    note: called once for each fault, after which the run continues without what was lost.
    is_private: whoever may write to the folder decides the scores, so that nobody else may. Raises
    UsageError where someone can.
    """

    def __init__(
        self,
        folder: Path,
        identity: bytes,
        *,
        max_bytes: int,
        note: Note,
        is_private: bool = False,
    ) -> None:
        self._folder = require_private(folder, FILES) if is_private else folder
        self._identity = identity
        self._max_bytes, self._note = max_bytes, note
        self._asked = self._found = 0
        self._hits: list[bytes] = []
        self._renewed = False
        self._connection = self._open()

    def get(self, texts: Sequence[Int32Array]) -> list[Float32Array | None]:
        """Logits of each text, (labels of all tasks,) float32, or None where they are not known.

        texts: token ids, (seq,) int32 each, all different.
        """
        nothing: list[Float32Array | None] = [None] * len(texts)
        keys = [self._key(ids) for ids in texts]
        found = self._guarded(lambda connection: self._read(connection, keys), nothing)
        self._asked += len(found)
        self._found += sum(logits is not None for logits in found)
        return found

    def put(self, texts: Sequence[Int32Array], logits: Sequence[Float32Array]) -> None:
        """Remember the logits of texts that `get` did not know, as it gives them."""
        entries = [
            (key := self._key(ids), _sealed(key, values.tobytes()))
            for ids, values in zip(texts, logits, strict=True)
        ]
        self._guarded(lambda connection: self._write(connection, entries), None)

    def summary(self) -> str:
        """One line on what it was good for."""
        return f"cache: {self._found:,} of {self._asked:,} texts were known"

    def close(self) -> None:
        """Let go of the file."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _key(self, ids: Int32Array) -> bytes:
        return hashlib.sha256(self._identity + ids.tobytes()).digest()

    def _guarded(self, action: Callable[[sqlite3.Connection], Result], otherwise: Result) -> Result:
        """Do something with the file; on a fault say so and go on with `otherwise`."""
        if self._connection is None:
            return otherwise
        try:
            return action(self._connection)
        except FAULTS as error:
            self.close()
            self._hits.clear()
            self._connection = self._after(error)
            return otherwise

    def _open(self) -> sqlite3.Connection | None:
        try:
            return _open_newest(self._folder, renew=False)
        except FAULTS as error:
            return self._after(error)

    def _after(self, error: Exception) -> sqlite3.Connection | None:
        """A new file if the old one is damaged, but once a run only; else nothing."""
        if _is_damage(error) and not self._renewed:
            self._renewed = True
            self._note(f"cache {self._folder}: is damaged and starts empty: {error}")
            try:
                return _open_newest(self._folder, renew=True)
            except FAULTS as second:
                error = second
        self._note(f"cache {self._folder}: not used any more in this run: {error}")
        return None

    def _read(
        self, connection: sqlite3.Connection, keys: Sequence[bytes]
    ) -> list[Float32Array | None]:
        found: list[Float32Array | None] = []
        for key in keys:
            row = connection.execute("SELECT value FROM entries WHERE key = ?", (key,)).fetchone()
            payload = _unsealed(key, row)
            found.append(None if payload is None else np.frombuffer(payload, dtype=np.float32))
        self._hits += [key for key, logits in zip(keys, found, strict=True) if logits is not None]
        return found

    def _write(
        self, connection: sqlite3.Connection, entries: Sequence[tuple[bytes, bytes]]
    ) -> None:
        """Add entries, mark what was read as used, and make room: one short transaction."""
        connection.execute("BEGIN IMMEDIATE")
        try:
            (use,) = connection.execute("SELECT max(used) + 1 FROM entries").fetchone()
            connection.executemany(
                "UPDATE entries SET used = ? WHERE key = ?", [(use, key) for key in self._hits]
            )
            for first in range(0, len(entries), ENTRIES_AT_ONCE):
                some = entries[first : first + ENTRIES_AT_ONCE]
                connection.executemany(
                    "INSERT OR REPLACE INTO entries VALUES (?, ?, ?)",
                    [(key, use or 0, value) for key, value in some],
                )
                _make_room(connection, self._max_bytes)
            connection.execute("COMMIT")
        except BaseException:
            connection.rollback()
            raise
        self._hits.clear()


def _open_newest(folder: Path, *, renew: bool) -> sqlite3.Connection:
    """Open the newest file of a folder, or make one; `renew` makes one in place of all others.

    A new one never has an old name: a run that still has the old file open would remove the new
    one's journal when it ends.
    """
    make_private(folder)
    with FileLock(folder / "lock", timeout=BUSY_TIMEOUT_S, mode=LOCK_MODE):
        stems = (path.stem.removeprefix("logits-") for path in folder.glob("logits-*.sqlite"))
        numbers = {int(stem) for stem in stems if stem.isdecimal()}
        number = max(numbers, default=0) + renew
        connection = _connect(folder / f"logits-{number}.sqlite")
        for old in numbers - {number}:
            for path in folder.glob(f"logits-{old}.sqlite*"):
                path.unlink(missing_ok=True)
    return connection


def _make_room(connection: sqlite3.Connection, max_bytes: int) -> None:
    """Remove what was used longest ago until the rest is small enough."""
    (size,) = connection.execute("SELECT coalesce(sum(bytes), 0) FROM size").fetchone()
    victims = []
    if size > max_bytes:
        oldest = f"SELECT key, {COST.format('entries')} FROM entries ORDER BY used"
        for key, cost in connection.execute(oldest):
            if size <= max_bytes:
                break
            victims.append((key,))
            size -= cost
        if size > max_bytes:
            raise sqlite3.DatabaseError("its size is not that of its entries")
    connection.executemany("DELETE FROM entries WHERE key = ?", victims)


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None)
    try:
        _prepare(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _prepare(connection: sqlite3.Connection) -> None:
    """Settings and, in a new file, tables. Raises sqlite3.DatabaseError if it is damaged."""
    for pragma in (
        "trusted_schema = OFF",
        "cell_size_check = ON",  # looks at pages before it follows what they say
        "recursive_triggers = ON",  # so that what is replaced counts as removed
        "journal_mode = WAL",
        "synchronous = NORMAL",
        "journal_size_limit = 67108864",
    ):
        connection.execute(f"PRAGMA {pragma}")
    (layout,) = connection.execute("PRAGMA user_version").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if not layout and not tables:
        connection.executescript(f"BEGIN; {SCHEMA} COMMIT;")
    elif layout != LAYOUT:
        raise sqlite3.DatabaseError(f"layout {layout}, expected {LAYOUT}")


def _is_damage(error: Exception) -> bool:
    """True if the file is to blame, and not the disk, the rights or another run."""
    if isinstance(error, (OSError, MemoryError)):
        return False
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT)
    return code & 0xFF not in TRANSIENT


def _sealed(key: bytes, payload: bytes) -> bytes:
    return hashlib.blake2b(payload, key=key, digest_size=CHECKSUM_BYTES).digest() + payload


def _unsealed(key: bytes, row: tuple[object] | None) -> bytes | None:
    """What was sealed under this key, or None if it was not, or has changed since."""
    value = None if row is None else row[0]
    if not isinstance(value, bytes) or _sealed(key, value[CHECKSUM_BYTES:]) != value:
        return None
    return value[CHECKSUM_BYTES:]
