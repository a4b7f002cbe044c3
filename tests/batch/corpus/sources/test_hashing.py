"""Fingerprints: sha256 of small files, of pieces for large ones, and resumable."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from batch.corpus.sources import hashing
from batch.corpus.sources.files import find_files
from batch.corpus.sources.hashing import PIECE_BYTES, READ_BYTES, HashJournal, fingerprint_file
from batch.corpus.sources.source import SourceFile
from schemas.errors import StoppedError

CheckStop = Callable[[], None]


def stop_after(looks: int) -> CheckStop:
    left = iter(range(looks))

    def check_stop() -> None:
        if next(left, None) is None:
            raise StoppedError("stopped")

    return check_stop


@pytest.fixture
def pieces(monkeypatch: pytest.MonkeyPatch) -> int:
    """Pieces of 64 KiB, read in blocks of 16 KiB, so that files of tests have several."""
    monkeypatch.setattr(hashing, "PIECE_BYTES", 2**16)
    monkeypatch.setattr(hashing, "READ_BYTES", 2**14)
    return 2**16


@pytest.fixture
def settled(tmp_path: Path) -> Callable[[bytes], SourceFile]:
    """Writes a file, and waits until its times would show another change."""

    def settled(content: bytes) -> SourceFile:
        path = tmp_path / "a.parquet"
        path.write_bytes(content)
        while not (source := find_files([str(path)]).files[0]).version.is_settled:
            time.sleep(0.1)
        return source

    return settled


def expected(content: bytes, piece: int) -> str:
    digests = [
        hashlib.sha256(content[first : first + piece]).digest()
        for first in range(0, len(content), piece)
    ]
    return hashlib.sha256(b"".join(digests)).hexdigest()


@pytest.mark.parametrize("size", [0, 1, 2**16])
def test_a_small_file_has_the_sha256_of_its_content(tmp_path: Path, pieces: int, size: int) -> None:
    """The fingerprint of a file of up to one piece is the output of `sha256sum`."""
    path = tmp_path / "a.parquet"
    path.write_bytes(os.urandom(size))
    (source,) = find_files([str(path)]).files

    assert fingerprint_file(source) == "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("size", [2**16 + 1, 2**17, 5 * 2**16 - 3])
def test_a_large_file_is_hashed_in_pieces(tmp_path: Path, pieces: int, size: int) -> None:
    """Its fingerprint is the sha256 over the digests of its pieces, the last one shorter."""
    path = tmp_path / "a.parquet"
    path.write_bytes(os.urandom(size))
    (source,) = find_files([str(path)]).files
    name, _, digest = fingerprint_file(source).partition(":")

    assert name.startswith("sha256-pieces-")
    assert digest == expected(path.read_bytes(), pieces)


def test_a_piece_is_256_mebibytes() -> None:
    """The piece size is part of the definition of a fingerprint, and of its prefix."""
    assert PIECE_BYTES == 256 * 2**20
    assert READ_BYTES <= 4 * 2**20


def test_hashing_is_resumed_from_the_last_finished_piece(
    tmp_path: Path, pieces: int, settled: Callable[[bytes], SourceFile]
) -> None:
    """Even short attempts make progress by one piece each, to the same fingerprint."""
    content = os.urandom(5 * pieces)
    source = settled(content)
    attempts = 0
    while True:
        attempts += 1
        with HashJournal(tmp_path / "journal") as journal:
            try:
                fingerprint = fingerprint_file(source, journal, stop_after(5))
            except StoppedError:
                continue
            break

    assert attempts == 5
    assert fingerprint.endswith(expected(content, pieces))


def test_finished_files_are_not_read_again(
    tmp_path: Path, settled: Callable[[bytes], SourceFile]
) -> None:
    """Hashing ten thousand small files makes progress, too."""
    source = settled(b"x" * 1000)
    with HashJournal(tmp_path / "journal") as journal:
        fingerprint = fingerprint_file(source, journal)
    with HashJournal(tmp_path / "journal") as journal:
        assert fingerprint_file(source, journal, stop_after(0)) == fingerprint


def test_a_digest_is_valid_for_one_version_only(
    tmp_path: Path, settled: Callable[[bytes], SourceFile]
) -> None:
    """A file that was overwritten is hashed again, even with the same name, size and mtime."""
    with HashJournal(tmp_path / "journal") as journal:
        before = fingerprint_file(settled(b"x" * 1000), journal)
    with HashJournal(tmp_path / "journal") as journal:
        after = fingerprint_file(settled(b"y" * 1000), journal)

    assert before != after


def test_a_file_that_was_just_written_is_not_journaled(tmp_path: Path) -> None:
    """It may still change without a change of its times."""
    path = tmp_path / "a.parquet"
    path.write_bytes(b"x")
    (source,) = find_files([str(path)]).files
    journal = HashJournal(tmp_path / "journal")
    fingerprint_file(source, journal)

    assert not source.version.is_settled
    assert journal.digest(source, 0) is None
    journal.close()


DAMAGES = {
    "missing": None,
    "empty": b"",
    "binary": os.urandom(100),
    "cut": b'{"version": "x", "piece": 0, "sha',
    "other shapes": b'[]\n1\n{"version": 1}\n{"version": "x", "piece": "0", "sha256": "00"}\n',
    "deep": b"[" * 100_000,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_journal_only_costs_time(
    tmp_path: Path, settled: Callable[[bytes], SourceFile], damage: str
) -> None:
    """Valid lines are used, and new digests can be added."""
    content = DAMAGES[damage]
    path = tmp_path / "journal"
    if content is not None:
        path.write_bytes(content)
    source = settled(b"x" * 1000)
    with HashJournal(path) as journal:
        fingerprint = fingerprint_file(source, journal)
    with HashJournal(path) as journal:
        assert fingerprint_file(source, journal, stop_after(0)) == fingerprint
    assert fingerprint == "sha256:" + hashlib.sha256(b"x" * 1000).hexdigest()


def test_a_journal_that_cannot_be_written_only_costs_time(
    tmp_path: Path, settled: Callable[[bytes], SourceFile]
) -> None:
    """For example, if there is a folder of its name."""
    source = settled(b"x")
    with HashJournal(tmp_path) as journal:
        assert fingerprint_file(source, journal).startswith("sha256:")


def test_the_journal_has_no_names(tmp_path: Path, settled: Callable[[bytes], SourceFile]) -> None:
    """Versions are stored as digests, so that it contains no path or URL."""
    with HashJournal(tmp_path / "journal") as journal:
        fingerprint_file(settled(b"x"), journal)
    (line,) = (tmp_path / "journal").read_text(encoding="ascii").split()[:1]

    assert str(tmp_path) not in line
    assert json.loads((tmp_path / "journal").read_text(encoding="ascii"))["piece"] == 0
