"""Reading of untrusted files: regular files only, in full, up to a maximum size."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from schemas.bundle.folder import MAX_FILE_BYTES, MAX_MANIFEST_BYTES, Bundle, BundleManifest
from schemas.errors import BundleError
from schemas.io.files import FileFacts
from schemas.io.regular_file import open_regular_file, read_regular_file


def make_socket(path: Path) -> None:
    """A socket at a path; it is bound elsewhere, because paths of sockets must be short."""
    before = Path.cwd()
    os.chdir(path.parent)
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path.name)
    finally:
        os.chdir(before)


ODD_FILES: dict[str, Callable[[Path], object]] = {
    "a named pipe": os.mkfifo,
    "a device": lambda path: path.symlink_to("/dev/zero"),
    "a folder": Path.mkdir,
    "a socket": make_socket,
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A bundle of one task with files of a few bytes."""
    folder = tmp_path / "bundle"
    folder.mkdir()
    for name in ("topics.onnx", "tokenizer.json"):
        (folder / name).write_text(f"this is {name}")
    files = {path.name: FileFacts.of(path) for path in folder.iterdir()}
    manifest = BundleManifest(tasks={"topics": {"fp32": "topics.onnx"}}, files=files)
    (folder / "bundle.json").write_text(manifest.model_dump_json())
    return folder


@pytest.mark.parametrize("kind", ODD_FILES)
def test_only_regular_files_are_read(tmp_path: Path, kind: str) -> None:
    """Pipes, devices, folders and sockets are refused without blocking on them."""
    path = tmp_path / "odd"
    ODD_FILES[kind](path)

    with pytest.raises(OSError, match="a regular file is expected") as caught:
        read_regular_file(path, max_bytes=10)
    assert caught.value.strerror is not None
    assert kind in caught.value.strerror


@pytest.mark.parametrize("kind", ODD_FILES)
@pytest.mark.parametrize("name", ["bundle.json", "tokenizer.json", "topics.onnx"])
def test_files_of_a_bundle_must_be_regular_files(folder: Path, name: str, kind: str) -> None:
    """The manifest and the files that it lists."""
    (folder / name).unlink()
    ODD_FILES[kind](folder / name)

    with pytest.raises(BundleError, match=rf"{kind}, and a regular file is expected"):
        Bundle.open(folder).check_all()


def test_a_huge_manifest_is_not_read(folder: Path) -> None:
    """A sparse file of a terabyte is refused by its size."""
    os.truncate(folder / "bundle.json", 10**12)

    with pytest.raises(BundleError, match=f"and at most {MAX_MANIFEST_BYTES:,} are allowed"):
        Bundle.open(folder)


def test_a_huge_file_is_not_read(folder: Path) -> None:
    """Sizes are compared with the manifest before the first byte is read."""
    os.truncate(folder / "topics.onnx", 10**12)

    with pytest.raises(BundleError, match=r"topics\.onnx: changed .*: 1,000,000,000,000 bytes"):
        Bundle.open(folder).read("topics.onnx")


def test_a_manifest_cannot_raise_the_maximum_size(folder: Path) -> None:
    """Even if it lists the size of a sparse file that no ONNX reader accepts."""
    os.truncate(folder / "topics.onnx", MAX_FILE_BYTES + 1)
    manifest = (folder / "bundle.json").read_text()
    listed = f'"bytes":{len("this is topics.onnx")}'
    (folder / "bundle.json").write_text(manifest.replace(listed, f'"bytes":{MAX_FILE_BYTES + 1}'))

    with pytest.raises(BundleError, match=r"topics\.onnx: changed"):
        Bundle.open(folder).read("topics.onnx")


def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path: Path) -> None:
    """If it is longer or shorter than when it was opened."""
    path = tmp_path / "file"
    for size in (5, 3):
        path.write_bytes(b"1234")
        with open_regular_file(path) as opened:
            os.truncate(path, size)
            with pytest.raises(OSError, match="it changed while it was read"):
                opened.read()


def test_a_link_to_a_regular_file_is_read(folder: Path) -> None:
    """Stores that share files use links; the hash of the content is checked all the same."""
    (folder / "topics.onnx").rename(folder.parent / "elsewhere")
    (folder / "topics.onnx").symlink_to(folder.parent / "elsewhere")

    assert Bundle.open(folder).read("topics.onnx") == b"this is topics.onnx"


@pytest.mark.parametrize("content", [b"", b"a", bytes(100_000)])
def test_a_file_is_read_completely(tmp_path: Path, content: bytes) -> None:
    """Up to the maximum size."""
    path = tmp_path / "file"
    path.write_bytes(content)

    assert read_regular_file(path, max_bytes=len(content)) == content
    if content:
        with pytest.raises(OSError, match="are allowed"):
            read_regular_file(path, max_bytes=len(content) - 1)
