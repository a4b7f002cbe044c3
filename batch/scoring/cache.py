"""Persistent logit cache, keyed by token ids and model identity.

Logits depend on the text's tokens, on the model, and on the shape of its batch, which follows from
the text's length and the batch size. A key covers all of it, and every entry has a checksum, so
that the cache returns exactly the logits of a run without it, or nothing. No error of the cache
ends a run.
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
INSERT_BATCH_ENTRIES = 64
"""Entries inserted between two evictions, which bounds how far the file exceeds its size."""

FILES = ("lock", "logits-*")
"""Patterns of the files in the folder of a cache, journals included."""

LOCK_MODE = 0o644
"""Mode of the lock file whatever the umask, the same as of SQLite's own files."""

LAYOUT = 1
"""`user_version` of the database; a file with another layout is replaced."""

COST = "((coalesce(length({0}.value), 0) + 92) * 8 / 5 + (length({0}.value) > 900) * 4096)"
"""Bytes of an entry on disk: its key twice (in the table and in the index), headers, its share of
pages that are two thirds full, as in a B-tree with random keys, and an overflow page for a long
value."""

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
"""Errors that a damaged file or disk can cause: sqlite3 fails to decode the names in a damaged
schema, and allocates absurd amounts of memory where a length is damaged."""

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
"""Primary error codes that do not mean that the file is damaged."""


class LogitCache:
    """Logits by text, for one model, in an SQLite file that other runs may use at the same time.

    identity: of the model. max_bytes: maximum size of the file, which has a journal of a few
    megabytes beside it while it is open; the least recently used entries are evicted.
    note: called once for each error, after which the run continues without the lost entries.
    is_private: require that no other user has write access to the folder, because whoever has it
    decides the scores. Raises UsageError otherwise.
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
        self._lookup_count = self._hit_count = 0
        self._hit_keys: list[bytes] = []
        self._recreated = False
        self._connection = self._open()

    def get(self, texts: Sequence[Int32Array]) -> list[Float32Array | None]:
        """Logits of each text, (labels of all tasks,) float32, or None where they are not cached.

        texts: token ids, (seq,) int32 each, all different.
        """
        misses: list[Float32Array | None] = [None] * len(texts)
        keys = [self._key(ids) for ids in texts]
        results = self._guarded(lambda connection: self._read(connection, keys), misses)
        self._lookup_count += len(results)
        self._hit_count += sum(logits is not None for logits in results)
        return results

    def put(self, texts: Sequence[Int32Array], logits: Sequence[Float32Array]) -> None:
        """Add the logits of texts for which `get` returned None, in the shape that it returns."""
        entries = [
            (key := self._key(ids), _with_checksum(key, values.tobytes()))
            for ids, values in zip(texts, logits, strict=True)
        ]
        self._guarded(lambda connection: self._write(connection, entries), None)

    def summary(self) -> str:
        """Hit count, for the log."""
        return f"cache: {self._hit_count:,} of {self._lookup_count:,} texts were cached"

    def close(self) -> None:
        """Close the file."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _key(self, ids: Int32Array) -> bytes:
        return hashlib.sha256(self._identity + ids.tobytes()).digest()

    def _guarded(self, action: Callable[[sqlite3.Connection], Result], fallback: Result) -> Result:
        """Run an action on the file; on an error note it and return `fallback`."""
        if self._connection is None:
            return fallback
        try:
            return action(self._connection)
        except FAULTS as error:
            self.close()
            self._hit_keys.clear()
            self._connection = self._connection_after(error)
            return fallback

    def _open(self) -> sqlite3.Connection | None:
        try:
            return _open_newest(self._folder, recreate=False)
        except FAULTS as error:
            return self._connection_after(error)

    def _connection_after(self, error: Exception) -> sqlite3.Connection | None:
        """Connection to a new file if the old one is damaged, once per run; else None."""
        if _is_damage(error) and not self._recreated:
            self._recreated = True
            self._note(f"cache {self._folder}: is damaged and starts empty: {error}")
            try:
                return _open_newest(self._folder, recreate=True)
            except FAULTS as second:
                error = second
        self._note(f"cache {self._folder}: disabled for the rest of this run: {error}")
        return None

    def _read(
        self, connection: sqlite3.Connection, keys: Sequence[bytes]
    ) -> list[Float32Array | None]:
        results: list[Float32Array | None] = []
        for key in keys:
            row = connection.execute("SELECT value FROM entries WHERE key = ?", (key,)).fetchone()
            payload = _checked_payload(key, row)
            results.append(None if payload is None else np.frombuffer(payload, dtype=np.float32))
            if payload is not None:
                self._hit_keys.append(key)
        return results

    def _write(
        self, connection: sqlite3.Connection, entries: Sequence[tuple[bytes, bytes]]
    ) -> None:
        """Insert entries, mark hits as used, and evict: one short transaction."""
        connection.execute("BEGIN IMMEDIATE")
        try:
            (use,) = connection.execute("SELECT max(used) + 1 FROM entries").fetchone()
            connection.executemany(
                "UPDATE entries SET used = ? WHERE key = ?", [(use, key) for key in self._hit_keys]
            )
            for first in range(0, len(entries), INSERT_BATCH_ENTRIES):
                batch = entries[first : first + INSERT_BATCH_ENTRIES]
                connection.executemany(
                    "INSERT OR REPLACE INTO entries VALUES (?, ?, ?)",
                    [(key, use or 0, value) for key, value in batch],
                )
                _evict(connection, self._max_bytes)
            connection.execute("COMMIT")
        except BaseException:
            connection.rollback()
            raise
        self._hit_keys.clear()


def _open_newest(folder: Path, *, recreate: bool) -> sqlite3.Connection:
    """Open the newest file of a folder, or create it; `recreate` replaces all files by a new one.

    A new file never gets the name of an old one: a run that still has the old file open would
    remove the new file's journal when it ends.
    """
    make_private(folder)
    with FileLock(folder / "lock", timeout=BUSY_TIMEOUT_S, mode=LOCK_MODE):
        stems = (path.stem.removeprefix("logits-") for path in folder.glob("logits-*.sqlite"))
        numbers = {int(stem) for stem in stems if stem.isdecimal()}
        number = max(numbers, default=0) + recreate
        connection = _connect(folder / f"logits-{number}.sqlite")
        for old in numbers - {number}:
            for path in folder.glob(f"logits-{old}.sqlite*"):
                path.unlink(missing_ok=True)
    return connection


def _evict(connection: sqlite3.Connection, max_bytes: int) -> None:
    """Remove the least recently used entries until the others fit into `max_bytes`."""
    (size,) = connection.execute("SELECT coalesce(sum(bytes), 0) FROM size").fetchone()
    evicted = []
    if size > max_bytes:
        oldest = f"SELECT key, {COST.format('entries')} FROM entries ORDER BY used"
        for key, cost in connection.execute(oldest):
            if size <= max_bytes:
                break
            evicted.append((key,))
            size -= cost
        if size > max_bytes:
            raise sqlite3.DatabaseError("its recorded size does not match its entries")
    connection.executemany("DELETE FROM entries WHERE key = ?", evicted)


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None)
    try:
        _prepare(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _prepare(connection: sqlite3.Connection) -> None:
    """Set pragmas and, in a new file, create tables.

    Raises sqlite3.DatabaseError if the file is damaged.
    """
    for pragma in (
        "trusted_schema = OFF",
        "cell_size_check = ON",  # detects damaged pages before they are followed
        "recursive_triggers = ON",  # so that a replaced entry runs the delete trigger
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
    """True if the file is damaged, and the cause is not the disk, permissions or another run."""
    if isinstance(error, (OSError, MemoryError)):
        return False
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT)
    return code & 0xFF not in TRANSIENT


def _with_checksum(key: bytes, payload: bytes) -> bytes:
    return hashlib.blake2b(payload, key=key, digest_size=CHECKSUM_BYTES).digest() + payload


def _checked_payload(key: bytes, row: tuple[object] | None) -> bytes | None:
    """Payload of a row, or None if the row is missing or its checksum under this key is wrong."""
    value = None if row is None else row[0]
    if not isinstance(value, bytes) or _with_checksum(key, value[CHECKSUM_BYTES:]) != value:
        return None
    return value[CHECKSUM_BYTES:]
