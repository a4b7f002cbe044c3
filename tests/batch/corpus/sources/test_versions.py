"""A corpus that changes while it is read: the change is detected at once or at the end."""

from __future__ import annotations

import functools
import http.server
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from email.utils import formatdate
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import Result
from fsspec.implementations.local import LocalFileSystem
from fsspec.registry import _registry

from batch.corpus.plan import Chunk, make_plan
from batch.corpus.reader import ChunkReader
from batch.corpus.sources.files import find_files
from batch.corpus.sources.footers import open_parquet, read_footer
from batch.corpus.sources.hashing import check_unchanged, fingerprint_file
from batch.corpus.sources.source import SourceFile
from batch.corpus.sources.versions import remote_version
from batch.corpus.tasks import RunTasks
from batch.options import CorpusOptions, ModelOptions, OutputOptions, RunOptions
from batch.pipeline.progress import JsonProgress
from batch.pipeline.run import run
from batch.pipeline.stop import StopSwitch
from schemas.errors import CorpusError
from schemas.text.model_text import TextSpec
from tests.label_tasks import KIND

with pytest.MonkeyPatch.context() as patch:  # it registers itself for http when it is imported
    for scheme in ("http", "https", "sync-http", "sync-https"):
        patch.setitem(_registry, scheme, None)
    from fsspec.implementations.http_sync import HTTPFileSystem

Write = Callable[..., Path]
Change = Callable[[Path], None]

TEXTS = ["Aid is wasted by officials.", "Sanctions hurt us.", "Talks now, or war for ever."]
CHANGED = "changed since the run began"


def replace_by_rename(path: Path) -> None:
    other = path.with_suffix(".new")
    other.write_bytes(path.read_bytes())
    os.utime(other, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
    other.rename(path)


def overwrite_in_place(path: Path) -> None:
    """Same size and restored modification time, as by rsync and backups."""
    before = path.stat()
    content = bytearray(path.read_bytes())
    content[10] ^= 1
    time.sleep(0.02)  # longer than a tick of the clock of this machine's file systems
    with path.open("r+b") as file:
        file.write(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def remove(path: Path) -> None:
    path.unlink()


CHANGES = [replace_by_rename, overwrite_in_place, append, truncate, remove]


@pytest.fixture
def corpus(write: Write) -> Path:
    """A file of a few chunks."""
    return write({"text": TEXTS * 20}, "corpus/a.parquet")


def listed(path: Path | str) -> SourceFile:
    (source,) = find_files([str(path)]).files
    return source


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("use", [open_parquet, read_footer, fingerprint_file])
def test_a_local_file_that_changed_is_not_opened(
    corpus: Path, change: Change, use: Callable[[SourceFile], object]
) -> None:
    """Footer, gold, hash and chunks are of the version that was listed, or there is an error."""
    source = listed(corpus)
    use(source)
    change(corpus)
    with pytest.raises(CorpusError, match=r"changed since the run|existed when the run began"):
        use(source)


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_during_hashing_is_detected(corpus: Path, change: Change) -> None:
    """The hash would not be that of any version."""
    source = listed(corpus)
    looks = iter(range(1))

    def check_stop() -> None:
        if next(looks, None) is not None:
            change(corpus)

    with pytest.raises(CorpusError, match=r"changed since the run|existed when the run began"):
        fingerprint_file(source, check_stop=check_stop)


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_between_two_chunks_is_detected(
    corpus: Path, tmp_path: Path, change: Change
) -> None:
    """Even if the old file is still open or cached; no part mixes both versions."""
    options = CorpusOptions((str(corpus),), chunk_rows=5)
    plan = make_plan(options, RunTasks({"t": KIND}, {}), TextSpec())
    reader = ChunkReader(plan, options, TextSpec(), max_tokens=8)
    reader.read(plan.chunks[0])
    change(corpus)
    with pytest.raises(CorpusError, match=r"changed since the run|existed when the run began"):
        reader.read(Chunk(1, 0, 5, 5))


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_detected_at_the_end(corpus: Path, change: Change) -> None:
    """Even of a file that was read completely before."""
    listing = find_files([str(corpus.parent)])
    fingerprints = {file.name: fingerprint_file(file) for file in listing.files}
    check_unchanged(listing, fingerprints)
    change(corpus)
    with pytest.raises(CorpusError, match=r"changed since the run|was removed|no Parquet files"):
        check_unchanged(listing, fingerprints)


def test_a_change_within_one_tick_is_detected_at_the_end(
    corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that was just written is hashed again, because its times may not change."""
    listing = find_files([str(corpus)])
    fingerprints = {file.name: fingerprint_file(file) for file in listing.files}
    coarse = listing.files[0].version
    overwrite_in_place(corpus)
    (again,) = find_files([str(corpus)]).files
    object.__setattr__(listing.files[0], "version", again.version)  # as if the clock stood still

    assert not coarse.is_settled
    with pytest.raises(CorpusError, match="content changed since the run began"):
        check_unchanged(listing, fingerprints)


def test_an_old_file_is_not_hashed_twice(corpus: Path) -> None:
    """A change would be visible in its times."""
    time.sleep(2.1)  # the tick that a file system's clock may have; nothing can set this time back

    assert listed(corpus).version.is_settled


def test_added_files_are_reported(corpus: Path, write: Write) -> None:
    """They are not in the plan, so the run reports that it did not score them."""
    listing = find_files([str(corpus.parent)])
    fingerprints = {file.name: fingerprint_file(file) for file in listing.files}
    late = write({"text": TEXTS}, "corpus/b.parquet")

    assert check_unchanged(listing, fingerprints) == (str(late),)


class SizeOnly(LocalFileSystem):  # type: ignore[misc]
    """A store that reports only the size of a file."""

    protocol = "sizeonly"

    def info(self, path: Any, **kwargs: Any) -> dict[str, Any]:
        info: dict[str, Any] = super().info(path, **kwargs)
        return {name: info[name] for name in ("name", "size", "type")}

    def modified(self, path: str) -> datetime:
        raise NotImplementedError


@pytest.fixture
def size_only(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> SourceFile:
    """The corpus in such a store, as a file that is not local."""
    monkeypatch.setitem(_registry, "sizeonly", SizeOnly)
    return listed(f"sizeonly://{corpus}")


def test_a_file_in_a_store_without_versions_is_hashed(corpus: Path, size_only: SourceFile) -> None:
    """Its content is the only version, and is compared at the end."""
    listing = find_files([f"sizeonly://{corpus}"])
    fingerprints = {file.name: fingerprint_file(file) for file in listing.files}

    assert list(fingerprints.values()) == [fingerprint_file(listed(corpus))]
    overwrite_in_place(corpus)
    with pytest.raises(CorpusError, match="content changed since the run began"):
        check_unchanged(listing, fingerprints)


def test_a_replaced_object_is_detected(corpus: Path) -> None:
    """By the facts of the store, even with the same size, when it is opened and at the end."""
    store = fsspec.filesystem("memory")
    content = corpus.read_bytes()
    store.pipe("/versions/a.parquet", content)
    try:
        listing = find_files(["memory://versions"])
        fingerprints = {file.name: fingerprint_file(file) for file in listing.files}
        check_unchanged(listing, fingerprints)
        store.pipe("/versions/a.parquet", content)
        with pytest.raises(CorpusError, match=CHANGED):
            open_parquet(listing.files[0])
        with pytest.raises(CorpusError, match=CHANGED):
            check_unchanged(listing, fingerprints)
    finally:
        store.rm("/versions", recursive=True)


def test_a_replaced_archive_is_detected(corpus: Path) -> None:
    """The index of an archive is read again, not cached."""
    import zipfile

    archive = corpus.with_name("x.zip")

    def pack(content: bytes) -> None:
        with zipfile.ZipFile(archive, "w") as file:
            file.writestr(zipfile.ZipInfo("a.parquet", (2026, 1, 1, 0, 0, 0)), content)

    content = corpus.read_bytes()
    pack(content)
    listing = find_files([f"zip://a.parquet::file://{archive}"])
    fingerprints = {file.name: fingerprint_file(file) for file in listing.files}
    pack(content[:10] + b"?" + content[11:])
    with pytest.raises(CorpusError, match=CHANGED):
        check_unchanged(listing, fingerprints)


class FakeStore:
    """Versions as reported by real stores, under the names that each of them uses."""

    def __init__(self, **info: object) -> None:
        self._info = info

    def info(self, path: str) -> dict[str, object]:
        return {"name": path, "type": "file", "size": 10, "url": "secret", **self._info}

    def modified(self, path: str) -> datetime:
        raise NotImplementedError

    def version(self) -> tuple[tuple[str, str | int], ...]:
        return remote_version(self, "a.parquet").facts


STAMPS = {
    "ETag": ('"a"', '"b"'),
    "etag": ("a", "b"),
    "VersionId": ("1", "2"),
    "version_id": ("1", "2"),
    "generation": ("1", "2"),
    "md5Hash": ("a", "b"),
    "content_md5": ("a", "b"),
    "crc32c": ("a", "b"),
    "CRC": (1, 2),
    "content_hash": ("a", "b"),
    "sha": ("a", "b"),
    "LastModified": (datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)),
    "last_modified": (datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)),
    "Last-Modified": (formatdate(10**9, usegmt=True), formatdate(10**9 + 1, usegmt=True)),
    "mtime": (1.5, 2.5),
    "modificationTime": (1, 2),
    "updated": ("2026-01-01T00:00:00Z", "2026-01-01T00:00:01Z"),
    "created": (1.5, 2.5),
    "creation_time": (1.5, 2.5),
    "last_write_time": (1.5, 2.5),
}


@pytest.mark.parametrize("name", STAMPS)
def test_every_version_fact_of_a_store_is_used(name: str) -> None:
    """Etags, versions, generations, checksums and times, under any name."""
    before, after = STAMPS[name]

    assert FakeStore(**{name: before}).version() != FakeStore(**{name: after}).version()


def test_other_facts_of_a_store_are_ignored() -> None:
    """Access times, storage classes and signed URLs change without the content."""
    noise = {"accessed": 1, "last_accessed_on": 1, "StorageClass": "x", "url": "y", "lease": 1}

    assert FakeStore().version() == FakeStore(**noise).version()


class RangeHandler(http.server.SimpleHTTPRequestHandler):
    """Serves a folder with range requests, as web servers for data do."""

    protocol_version = "HTTP/1.1"
    requests: ClassVar[list[str]] = []

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
        """Keep the output of the tests clean."""

    def do_GET(self) -> None:
        path = Path(self.translate_path(self.path.partition("?")[0]))
        ranged = self.headers.get("Range")
        self.requests.append(self.path)
        if not path.is_file():
            self.send_error(404)
            return
        content = path.read_bytes()
        first, last = 0, len(content) - 1
        if ranged:
            begin, _, end = ranged.removeprefix("bytes=").partition("-")
            first, last = int(begin), min(int(end or last), last)
        self.send_response(206 if ranged else 200)
        self.send_header("Content-Length", str(last - first + 1))
        self.send_header("Content-Range", f"bytes {first}-{last}/{len(content)}")
        self.send_header("Last-Modified", formatdate(path.stat().st_mtime, usegmt=True))
        self.end_headers()
        self.wfile.write(content[first : last + 1])


@pytest.fixture
def web(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The folder of the corpus on a real web server; URL of the file, with a signature."""
    monkeypatch.setitem(_registry, "http", HTTPFileSystem)  # the one that needs no event loop
    handler = functools.partial(RangeHandler, directory=str(corpus.parent))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/a.parquet?X-Signature=secret"
        server.shutdown()
        thread.join()


def test_a_web_file_is_read_and_named_without_its_signature(web: str) -> None:
    """The query is needed to read it and is not written anywhere."""
    source = listed(web)
    with open_parquet(source) as file:
        table = file.read()

    assert isinstance(table, pa.Table)
    assert table.num_rows == 60
    assert source.name == web.partition("?")[0]
    assert "secret" not in repr(source)


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_web_file_is_detected(web: str, corpus: Path, change: Change) -> None:
    """While it is read, when it is opened again, or at the end; the message has no signature."""
    listing = find_files([web])
    fingerprints = {file.name: fingerprint_file(file) for file in listing.files}
    check_unchanged(listing, fingerprints)
    change(corpus)
    if change is replace_by_rename:  # the same bytes under the same time are the same version
        check_unchanged(listing, fingerprints)
        return
    with pytest.raises(CorpusError) as error:
        check_unchanged(listing, fingerprints)

    assert "secret" not in str(error.value)


class ChangeOnce(JsonProgress):
    """Runs a function when the first rows are scored, like another program at that moment."""

    def __init__(self, change: Callable[[], None]) -> None:
        super().__init__()
        self._change = change

    def advance(self, rows: int, tokens: int) -> None:
        change, self._change = self._change, lambda: None
        change()
        super().advance(rows, tokens)


def run_and_change(bundle: Path, corpus: str, output: Path, change: Callable[[], None]) -> None:
    options = RunOptions(
        ModelOptions(bundle, "narrative", device="cpu"),
        CorpusOptions((corpus,), chunk_rows=4),
        OutputOptions(output),
    )
    run(options, ChangeOnce(change), StopSwitch())


@pytest.mark.parametrize("change", CHANGES)
def test_a_run_whose_corpus_changes_is_not_published(
    bundle: Path, write: Write, tmp_path: Path, change: Change
) -> None:
    """A change is detected in a file that was read, is being read, or comes later."""
    for changed in "ab":
        days, output = tmp_path / f"days-{changed}", tmp_path / f"scored-{changed}"
        for name in "ab":
            write({"text": TEXTS * 20}, f"{days.name}/{name}.parquet")
        file = days / f"{changed}.parquet"
        with pytest.raises(CorpusError, match=r"changed since the run|when the run began"):
            run_and_change(bundle, str(days), output, functools.partial(change, file))

        assert not (output / "run.json").exists()


def test_a_file_added_during_a_run_is_reported(
    bundle: Path, write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The run finishes without it and reports that."""
    first = write({"text": TEXTS * 4}, "days/a.parquet")
    content = first.read_bytes()
    late = first.with_name("b.parquet")
    run_and_change(bundle, str(first.parent), tmp_path / "out", lambda: _write(late, content))

    assert (tmp_path / "out" / "run.json").exists()
    assert f"are not part of it: '{late}'" in capsys.readouterr().err


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def test_secrets_of_a_url_are_not_written_to_the_output(
    web: str, batch_classify: Callable[..., Result], tmp_path: Path
) -> None:
    """Neither to `run.json`, the key, markers or rows, nor to the log."""
    url = web.replace("http://", "http://user:passw0rd@")
    result = batch_classify(url, output=tmp_path / "out", log_format="json")
    files = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    parts = pq.read_table(tmp_path / "out" / "predictions")

    assert result.exit_code == 0, result.output
    assert set(parts.column("source_file").to_pylist()) == {web.partition("?")[0]}
    for content in [*(path.read_bytes() for path in files), result.output.encode()]:
        assert b"passw0rd" not in content
        assert b"X-Signature" not in content


def test_files_left_out_are_in_the_log_and_the_record(
    write: Write, batch_classify: Callable[..., Result], tmp_path: Path
) -> None:
    """A user who misses rows finds the file and the reason."""
    write({"text": TEXTS}, "days/a.parquet")
    (tmp_path / "days" / "b.csv").touch()
    result = batch_classify(tmp_path / "days", output=tmp_path / "out")
    record = json.loads((tmp_path / "out" / "run.json").read_text(encoding="utf-8"))

    assert "left out: 1 files or folders" in result.stderr
    assert record["left_out_count"] == 1
    assert [left["file"] for left in record["left_out"]] == [str(tmp_path / "days" / "b.csv")]
