"""Fingerprints of corpus files, hashed in pieces so that an interrupted run resumes hashing."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import BinaryIO

from batch.corpus.sources.files import CorpusListing, find_files
from batch.corpus.sources.source import SourceFile
from batch.corpus.sources.urls import library_errors
from batch.corpus.sources.versions import CheckStop, never_stop
from schemas.errors import CorpusError
from schemas.io.json_values import parse_json
from schemas.printable import printable

PIECE_BYTES = 256 * 2**20
READ_BYTES = 4 * 2**20
DIGEST_BYTES = hashlib.sha256().digest_size


class HashJournal:
    """Digests of the pieces hashed so far, in a file of JSON lines, for the next attempt.

    A digest is valid for one version of a file only. A journal that is missing, damaged or not
    writable only costs time.
    path: None stores the digests in memory.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._digests: dict[tuple[str, int], bytes] = {}
        self._file: BinaryIO | None = None
        if path is None:
            return
        with suppress(OSError):
            for line in path.read_bytes().splitlines():
                self._load(line)
        with suppress(OSError):
            self._file = path.open("ab")
            self._file.write(b"\n")  # terminates a line that a crash left incomplete

    def __enter__(self) -> HashJournal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; digests that are added later are stored in memory only."""
        file, self._file = self._file, None
        if file is not None:
            with suppress(OSError):
                file.close()

    def digest(self, source: SourceFile, piece: int) -> bytes | None:
        """sha256 of a piece of this version of the file; None if it was not hashed yet."""
        return self._digests.get((_key(source), piece))

    def add(self, source: SourceFile, piece: int, digest: bytes) -> None:
        """Add the digest of a piece, unless the file may change without a change of its version."""
        if not source.version.is_settled:
            return
        key = _key(source)
        self._digests[key, piece] = digest
        if self._file is not None:
            line = json.dumps({"version": key, "piece": piece, "sha256": digest.hex()})
            with suppress(OSError):
                self._file.write(line.encode() + b"\n")
                self._file.flush()

    def _load(self, line: bytes) -> None:
        try:
            entry = parse_json(line)
            key, piece, digest = entry["version"], entry["piece"], bytes.fromhex(entry["sha256"])
        except (ValueError, KeyError, TypeError):
            return
        if isinstance(key, str) and isinstance(piece, int) and len(digest) == DIGEST_BYTES:
            self._digests[key, piece] = digest


def fingerprint_file(
    source: SourceFile, journal: HashJournal | None = None, check_stop: CheckStop = never_stop
) -> str:
    """Fingerprint of a file: the sha256 of its content, or of the version that its store reports.

    Up to PIECE_BYTES `sha256:` and the digest of the file; above, `sha256-pieces-256MiB:` and the
    sha256 over the digests of its pieces.
    check_stop: called every READ_BYTES; it may raise, and the next attempt resumes after the last
    finished piece in the journal.
    Raises CorpusError if the file is not the version that was listed.
    """
    if not source.is_local and not source.version.is_size_only:
        facts = json.dumps(source.version.facts).encode()
        return f"size:{source.version.size}:{hashlib.sha256(facts).hexdigest()}"
    digests = _piece_digests(source, journal or HashJournal(), check_stop)
    source.check_unchanged()
    if len(digests) == 1:
        return "sha256:" + digests[0].hex()
    combined = hashlib.sha256(b"".join(digests)).hexdigest()
    return f"sha256-pieces-{PIECE_BYTES // 2**20}MiB:{combined}"


def check_unchanged(
    listing: CorpusListing, fingerprints: Mapping[str, str], check_stop: CheckStop = never_stop
) -> tuple[str, ...]:
    """Check at the end of a run that its corpus has not changed since the beginning.

    fingerprints: of every file, by name, at the beginning. Files whose content may have changed
    without a change of their version are hashed again.
    Returns the names of files that were added since. Raises CorpusError.
    """
    current = find_files(listing.corpus, leave_out=listing.output, check_stop=check_stop)
    now = {source.name: source for source in current.files}
    for source in listing.files:
        check_stop()
        if source.name not in now:
            raise CorpusError(
                f"{source.label}: existed when the run began, and was removed",
                hint="restore it, then run again",
            )
        source.version.check(now[source.name].version, source.label)
        if not source.version.is_settled:
            fingerprint = fingerprint_file(source, check_stop=check_stop)
            if fingerprint != fingerprints[source.name]:
                raise CorpusError(
                    f"{source.label}: its content changed since the run began",
                    hint="wait until nothing writes to the corpus, then run again with --overwrite",
                )
    listed = {source.name for source in listing.files}
    return tuple(printable(name) for name in now if name not in listed)


def _piece_digests(source: SourceFile, journal: HashJournal, check_stop: CheckStop) -> list[bytes]:
    """sha256 of every piece, of which the last may be shorter; one digest for an empty file."""
    size = source.version.size
    if size is not None:
        pieces = range(max(1, -(-size // PIECE_BYTES)))
        in_journal = [journal.digest(source, piece) for piece in pieces]
        if None not in in_journal:
            return [digest for digest in in_journal if digest is not None]
    digests: list[bytes] = []
    with (
        closing(source.open()) as handle,
        library_errors(source.path, "cannot be read", source.label),
    ):
        while True:
            digest = journal.digest(source, len(digests))
            if digest is not None:
                handle.seek((len(digests) + 1) * PIECE_BYTES)
            else:
                digest, length = _digest_piece(handle, check_stop)
                if not length and digests:
                    return digests
                journal.add(source, len(digests), digest)
            digests.append(digest)
            if size is not None and len(digests) * PIECE_BYTES >= size:
                return digests


def _digest_piece(handle: BinaryIO, check_stop: CheckStop) -> tuple[bytes, int]:
    """sha256 of the next PIECE_BYTES, or of the rest of the file, and the number of bytes."""
    digest, length = hashlib.sha256(), 0
    while length < PIECE_BYTES:
        check_stop()
        block = handle.read(min(READ_BYTES, PIECE_BYTES - length))
        if not block:
            break
        digest.update(block)
        length += len(block)
    return digest.digest(), length


def _key(source: SourceFile) -> str:
    """Key of a version of a file, a string without secrets."""
    return hashlib.sha256(json.dumps([source.name, source.version.facts]).encode()).hexdigest()
