"""Atomic files and folders."""

import shutil
from pathlib import Path

import pytest

from schemas.io.files import FileFacts, atomic_folder, atomic_path, write_atomic


class DiskFullError(Exception):
    """Any error that interrupts writing."""


def contents(folder: Path) -> dict[str, str]:
    """Every file below a folder, hidden ones too."""
    return {
        str(path.relative_to(folder)): path.read_text()
        for path in folder.rglob("*")
        if path.is_file()
    }


def write_half(final: Path) -> None:
    """Begin to write a file, and fail."""
    with atomic_path(final) as temporary:
        temporary.write_text("half")
        raise DiskFullError


def test_file_is_written_atomically(tmp_path: Path) -> None:
    """The final name does not exist before the end, and no other name remains."""
    final = tmp_path / "report.json"
    with atomic_path(final) as temporary:
        temporary.write_text("half")
        assert not final.exists()
        temporary.write_text("whole")

    assert contents(tmp_path) == {"report.json": "whole"}


def test_failed_file_leaves_nothing(tmp_path: Path) -> None:
    """After an error neither the file nor its temporary file exists."""
    with pytest.raises(DiskFullError):
        write_half(tmp_path / "report.json")

    assert list(tmp_path.iterdir()) == []


def test_failed_file_leaves_the_old_one(tmp_path: Path) -> None:
    """A file that cannot be replaced is unchanged."""
    write_atomic(tmp_path / "report.json", "old")
    with pytest.raises(DiskFullError):
        write_half(tmp_path / "report.json")

    assert contents(tmp_path) == {"report.json": "old"}


def test_file_is_replaced(tmp_path: Path) -> None:
    """A second write replaces the first file."""
    write_atomic(tmp_path / "report.json", "old")
    write_atomic(tmp_path / "report.json", "new ✓")

    assert contents(tmp_path) == {"report.json": "new ✓"}


def test_scratch_folder_has_the_temporary_files(tmp_path: Path) -> None:
    """With a scratch folder there is never a temporary file in the final folder."""
    (tmp_path / "scratch").mkdir()
    (tmp_path / "final").mkdir()
    final = tmp_path / "final" / "part.parquet"
    with atomic_path(final, scratch=tmp_path / "scratch") as temporary:
        temporary.write_text("rows")
        assert list((tmp_path / "final").iterdir()) == []

    assert contents(tmp_path) == {"final/part.parquet": "rows"}


def test_writing_nothing_is_an_error(tmp_path: Path) -> None:
    """A block that does not write the file is not a success."""
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "report.json"):
        pass

    assert list(tmp_path.iterdir()) == []


def fill(folder: Path, word: str) -> None:
    """Write two files, one of them in a subfolder."""
    (folder / "inner").mkdir()
    (folder / "a").write_text(word)
    (folder / "inner" / "b").write_text(word)


def fill_half(final: Path) -> None:
    """Begin to fill a folder, and fail."""
    with atomic_folder(final) as folder:
        fill(folder, "new")
        raise DiskFullError


OLD = {"bundle/a": "old", "bundle/inner/b": "old"}
NEW = {"bundle/a": "new", "bundle/inner/b": "new"}


@pytest.fixture
def final(tmp_path: Path) -> Path:
    """A folder that was published before."""
    with atomic_folder(tmp_path / "bundle") as folder:
        fill(folder, "old")
    return tmp_path / "bundle"


def test_folder_is_created_with_its_parents(tmp_path: Path) -> None:
    """The parents of a published folder need not exist."""
    with atomic_folder(tmp_path / "a" / "b" / "bundle") as folder:
        fill(folder, "new")

    assert contents(tmp_path / "a" / "b") == NEW


def test_folder_is_replaced_completely(final: Path) -> None:
    """The new folder has no files of the old one, and no other name remains."""
    (final / "stray").write_text("old")
    with atomic_folder(final) as folder:
        fill(folder, "new")
        assert (final / "a").read_text() == "old"

    assert contents(final.parent) == NEW


def test_failed_folder_leaves_nothing(tmp_path: Path) -> None:
    """After an error neither the folder nor its temporary folder exists."""
    with pytest.raises(DiskFullError):
        fill_half(tmp_path / "bundle")

    assert list(tmp_path.iterdir()) == []


def test_failed_folder_leaves_the_old_one(final: Path) -> None:
    """A folder that cannot be replaced is unchanged."""
    with pytest.raises(DiskFullError):
        fill_half(final)

    assert contents(final.parent) == OLD


def test_old_folder_survives_a_failed_renaming(final: Path) -> None:
    """If the new folder is missing when it is renamed, the old one is restored."""
    with pytest.raises(FileNotFoundError), atomic_folder(final) as folder:
        shutil.rmtree(folder)

    assert contents(final.parent) == OLD


def test_remains_of_a_killed_run_are_removed(final: Path) -> None:
    """A kill before or after the folder was replaced does not affect the next run."""
    for name in (".bundle.tmp", ".bundle.old"):
        (final.parent / name).mkdir()
        fill(final.parent / name, "killed")
    with atomic_folder(final) as folder:
        fill(folder, "new")

    assert contents(final.parent) == NEW


def test_kill_between_two_renamings_loses_nothing(final: Path) -> None:
    """If only the retired folder is left, it survives a next run that fails."""
    final.rename(final.parent / ".bundle.old")
    with pytest.raises(DiskFullError):
        fill_half(final)

    assert contents(final.parent) == OLD


def test_facts_change_with_the_content(tmp_path: Path) -> None:
    """Different files have different facts, and equal files have equal facts."""
    for name, text in (("a", "one"), ("b", "two"), ("c", "one")):
        (tmp_path / name).write_text(text)
    a, b, c = (FileFacts.of(tmp_path / name) for name in "abc")

    assert a == c != b
    assert a.bytes == 3
    assert a.sha256 == "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed"
