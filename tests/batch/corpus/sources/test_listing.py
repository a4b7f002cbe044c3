"""Listing of a corpus: links, partitions, unusual names, table formats, files left out."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.local import LocalFileSystem
from fsspec.registry import _registry

from batch.corpus.sources.files import MAX_LEFT_OUT, CorpusListing, find_files
from batch.corpus.sources.footers import read_footer
from batch.corpus.sources.names import partitions_of
from schemas.errors import CorpusError, StoppedError

Write = Callable[..., Path]

COLUMNS = {"text": ["Aid is wasted by officials."]}
NOBODY = 65534


def names(listing: CorpusListing, top: Path) -> list[str]:
    return [os.path.relpath(file.name, top) for file in listing.files]


def keys(listing: CorpusListing) -> list[dict[str, str | None]]:
    return [dict(file.partitions) for file in listing.files]


def reasons(listing: CorpusListing, top: Path) -> dict[str, str]:
    return {file.name.removeprefix(f"{top}/"): file.reason for file in listing.left_out}


@pytest.fixture
def lake(write: Write) -> Path:
    """One file in a folder; tests add to it."""
    return write(COLUMNS, "lake/day=1/a.parquet").parents[1]


@contextmanager
def without_root() -> Iterator[None]:
    """Run as a user without root permissions, even if tests run as root."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may enter, unlike those of pytest."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    for path in [folder, *folder.rglob("*")]:
        if path.is_dir():
            path.chmod(0o755)
    shutil.rmtree(folder)


@pytest.mark.parametrize("entry", ["{}", "{}/", "{}/*", "{}/day=*/", "{}/*/*.parquet", "{}/**"])
def test_a_linked_partition_is_followed(write: Write, lake: Path, entry: str) -> None:
    """A link to a folder is read like a folder, in a folder and with a glob."""
    elsewhere = write(COLUMNS, "store/b.parquet").parent
    (lake / "day=2").symlink_to(elsewhere)
    listing = find_files([entry.format(lake)])

    assert names(listing, lake) == ["day=1/a.parquet", "day=2/b.parquet"]
    assert keys(listing) == [{"day": "1"}, {"day": "2"}]


def test_a_linked_file_is_followed(write: Write, lake: Path) -> None:
    """A link to a file is read under the name of the link."""
    (lake / "day=1" / "b.parquet").symlink_to(write(COLUMNS, "store/x"))

    assert names(find_files([str(lake)]), lake) == ["day=1/a.parquet", "day=1/b.parquet"]


def test_a_loop_of_links_ends_and_is_noted(lake: Path) -> None:
    """A link to a parent folder is not followed; its files are read once."""
    (lake / "day=1" / "up").symlink_to("..")
    listing = find_files([str(lake)])

    assert names(listing, lake) == ["day=1/a.parquet"]
    assert "links back" in reasons(listing, lake)["day=1/up/"]


def test_a_file_with_two_paths_is_read_once_and_noted(lake: Path) -> None:
    """`current -> day=1` beside `day=1` duplicates no row, and the partition keys are used."""
    (lake / "current").symlink_to("day=1")
    listing = find_files([str(lake)])

    assert names(listing, lake) == ["day=1/a.parquet"]
    assert keys(listing) == [{"day": "1"}]
    assert "the same file as" in reasons(listing, lake)["current/a.parquet"]


def test_one_file_with_two_values_of_a_key_is_read_twice(lake: Path) -> None:
    """As by other readers, because the rows differ in the column of the key."""
    (lake / "day=2").symlink_to("day=1")

    assert keys(find_files([str(lake)])) == [{"day": "1"}, {"day": "2"}]


def test_a_file_named_twice_has_the_keys_of_its_folder(lake: Path) -> None:
    """It is read once, at its first position, with all its partition keys."""
    listing = find_files([str(lake / "day=1" / "a.parquet"), str(lake)])

    assert names(listing, lake) == ["day=1/a.parquet"]
    assert keys(listing) == [{"day": "1"}]
    assert listing.summary() is None


def test_a_partition_whose_key_starts_with_an_underscore_is_read(write: Write, lake: Path) -> None:
    """`_late=1` is a partition, as in Spark; `_tmp` is hidden, and noted."""
    write(COLUMNS, "lake/_late=1/b.parquet")
    write(COLUMNS, "lake/_tmp/c.parquet")
    write(COLUMNS, "lake/.old=1/d.parquet")
    listing = find_files([str(lake)])

    assert names(listing, lake) == ["_late=1/b.parquet", "day=1/a.parquet"]
    assert set(reasons(listing, lake)) == {"_tmp/", ".old=1/"}


def test_files_with_unusual_names_are_read_or_noted(write: Write, tmp_path: Path) -> None:
    """No file that may contain rows is left out silently."""
    read = ["a.PARQUET", "b.parq", "c.pq", "d.snappy.parquet", "part-0000"]
    for name in [*read, "e.parquet.gz", "f.parquet.tmp", "_g.parquet", ".h.parquet"]:
        write(COLUMNS, f"odd/{name}")
    for name in ("_SUCCESS", ".a.PARQUET.crc", "README", "notes.txt"):
        (tmp_path / "odd" / name).write_text("not Parquet", encoding="utf-8")
    listing = find_files([str(tmp_path / "odd")])
    noted = reasons(listing, tmp_path / "odd")

    assert names(listing, tmp_path / "odd") == read
    assert set(noted) == {
        *("README", "notes.txt", "e.parquet.gz", "f.parquet.tmp", "_g.parquet", ".h.parquet")
    }
    assert "compressed as a whole" in noted["e.parquet.gz"]
    assert "hidden" in noted["_g.parquet"]
    assert listing.summary() is not None


def test_a_glob_that_names_the_suffix_reads_it(write: Write, tmp_path: Path) -> None:
    """`*.data` matches such files, `*` matches data files only, `_*` matches hidden ones."""
    for name in ("a.data", "b.parquet", "_c.parquet"):
        write(COLUMNS, f"odd/{name}")
    top = tmp_path / "odd"

    assert names(find_files([f"{top}/*.data"]), top) == ["a.data"]
    assert names(find_files([f"{top}/*"]), top) == ["b.parquet"]
    assert names(find_files([f"{top}/_*"]), top) == ["_c.parquet"]


def test_files_left_out_are_listed_up_to_a_limit_and_counted(write: Write, tmp_path: Path) -> None:
    """A million stray files do not produce a `run.json` of a gigabyte."""
    write(COLUMNS, "odd/a.parquet")
    for number in range(MAX_LEFT_OUT + 5):
        (tmp_path / "odd" / f"{number}.txt").touch()
    listing = find_files([str(tmp_path / "odd")])

    assert len(listing.left_out) == MAX_LEFT_OUT
    assert listing.left_out_count == MAX_LEFT_OUT + 5


@pytest.mark.parametrize(
    ("mark", "table_format"),
    [
        ("_delta_log/00.json", "Delta"),
        (".hoodie/hoodie.properties", "Hudi"),
        ("metadata/v1.metadata.json", "Iceberg"),
    ],
)
@pytest.mark.parametrize("entry", ["{}", "{}/table", "{}/table/data", "{}/*/data/*.parquet"])
def test_a_table_of_a_table_format_is_refused(
    write: Write, tmp_path: Path, mark: str, table_format: str, entry: str
) -> None:
    """Its folder contains deleted files; the table, a parent or a folder in it may be named."""
    write(COLUMNS, "lake/table/data/a.parquet")
    marker = tmp_path / "lake" / "table" / mark
    marker.parent.mkdir()
    marker.touch()
    with pytest.raises(CorpusError, match=f"table: is a table in {table_format} format") as error:
        find_files([entry.format(tmp_path / "lake")])

    assert "export" in str(error.value.hint)


def test_a_link_into_a_table_is_refused_too(write: Write, lake: Path, tmp_path: Path) -> None:
    """A partition of a table is refused even if it is reached through a link."""
    partition = write(COLUMNS, "table/day=2/a.parquet").parent
    (tmp_path / "table" / "_delta_log").mkdir()
    (lake / "day=2").symlink_to(partition)
    for entry in (lake, lake / "day=2"):
        with pytest.raises(CorpusError, match="table: is a table in Delta format"):
            find_files([str(entry)])


def test_files_of_a_table_can_be_named_one_by_one(write: Write, tmp_path: Path) -> None:
    """The current files of a table are accepted if they are named explicitly."""
    file = write(COLUMNS, "table/a.parquet")
    (tmp_path / "table" / "_delta_log").mkdir()

    assert len(find_files([str(file)]).files) == 1


def test_a_dangling_link_is_an_error(lake: Path) -> None:
    """The target of the link may be missing data, so the link is not left out."""
    (lake / "day=2").symlink_to("nowhere")
    for entry in ("{}", "{}/day=2", "{}/*", "{}/*/*.parquet", "{}/**/*.parquet"):
        with pytest.raises(CorpusError, match="day=2: is a link to something that does not exist"):
            find_files([entry.format(lake)])


@pytest.mark.parametrize("mode", [0o000, 0o444, 0o111])
def test_a_folder_that_cannot_be_listed_is_an_error(open_folder: Path, mode: int) -> None:
    """No folder is left out silently because of missing permissions."""
    for day in (1, 2):
        (open_folder / f"day={day}").mkdir()
        (open_folder / f"day={day}" / "a.parquet").touch()
    (open_folder / "day=2").chmod(mode)
    with without_root(), pytest.raises(CorpusError, match=r"day=2.*Permission denied"):
        find_files([str(open_folder)])
    with without_root(), pytest.raises(CorpusError, match=r"day=2.*Permission denied"):
        find_files([f"{open_folder}/day=*/*.parquet"])


def test_a_file_without_suffix_that_cannot_be_read_is_an_error(open_folder: Path) -> None:
    """It may be Parquet, so it is not left out."""
    (open_folder / "part-0").touch(mode=0o000)
    with without_root(), pytest.raises(CorpusError, match=r"part-0.*Permission denied"):
        find_files([str(open_folder)])


def test_pipes_sockets_and_devices_are_refused_before_they_are_opened(
    lake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Opening a pipe would block forever, if named, found in a folder, or used as an archive."""
    os.mkfifo(lake / "pipe.parquet")
    for entry in (lake, lake / "pipe.parquet", f"{lake}/*", f"zip://*::{lake}/pipe.parquet"):
        with pytest.raises(CorpusError, match=r"pipe.parquet: is a pipe .FIFO., not a regular"):
            find_files([str(entry)])
    (lake / "pipe.parquet").unlink()
    monkeypatch.chdir(lake)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("s.parquet")
        with pytest.raises(CorpusError, match=r"s.parquet: is a socket"):
            find_files([str(lake)])
    for device in ("/dev/zero", "/dev/stdin"):
        with pytest.raises(CorpusError, match=f"{device}: is"):
            find_files([device])


def test_a_socket_with_another_suffix_is_left_out(lake: Path) -> None:
    """A socket of a program beside the data does not cause a refusal."""
    os.mkfifo(lake / "control.fifo")

    assert "not a regular file" in reasons(find_files([str(lake)]), lake)["control.fifo"]


def test_folders_above_the_corpus_are_not_partitions(write: Write, tmp_path: Path) -> None:
    """Keys come from folders below the named path, and from those that a glob matches."""
    file = write(COLUMNS, "status=final/lake/dt=1/a.parquet")
    lake = file.parents[1]

    assert keys(find_files([str(lake)])) == [{"dt": "1"}]
    assert keys(find_files([str(file)])) == [{}]
    assert keys(find_files([f"{lake}/dt=*/"])) == [{"dt": "1"}]
    assert keys(find_files([f"{lake}/dt=1/*.parquet"])) == [{}]
    assert keys(find_files([f"{tmp_path}/*/lake/"])) == [{"status": "final", "dt": "1"}]


@pytest.mark.parametrize(
    ("folder", "expected"),
    [
        ("news-desk=UA", {"news-desk": "UA"}),
        ("news desk=a b", {"news desk": "a b"}),
        ("1=2", {"1": "2"}),
        ("a%3Db=c%2Fd", {"a=b": "c/d"}),
        ("k=v=w", {"k": "v=w"}),
        ("день=субота", {"день": "субота"}),
        ("k=", {"k": ""}),
        ("k=%FF", {"k": "%FF"}),
        ("k=__HIVE_DEFAULT_PARTITION__", {"k": None}),
        ("=v", {}),
    ],
)
def test_partition_keys_may_have_any_characters(
    write: Write, tmp_path: Path, folder: str, expected: dict[str, str | None]
) -> None:
    """Keys need not be Python identifiers; escapes are decoded."""
    write(COLUMNS, f"lake/{folder}/a.parquet")

    assert keys(find_files([str(tmp_path / "lake")])) == [expected]


def test_a_key_with_two_values_is_refused() -> None:
    """One value would be lost; the same value twice is accepted."""
    with pytest.raises(CorpusError, match="partition key 'k' has two values"):
        partitions_of(["k=1", "m", "k=2"], "a.parquet")

    assert partitions_of(["k=1", "m", "k=1"], "a.parquet") == (("k", "1"),)


def test_archives_with_the_same_path_inside_do_not_collide(write: Write, tmp_path: Path) -> None:
    """The names of the files include the archive."""
    file = write(COLUMNS, "a.parquet")
    for name in ("x.zip", "y.zip"):
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.write(file, "in/a.parquet")
    entries = [f"zip://**/*.parquet::file://{tmp_path}/{name}" for name in ("x.zip", "y.zip")]
    listing = find_files(entries)

    assert [file.name for file in listing.files] == [
        f"zip://in/a.parquet::file://{tmp_path}/{name}" for name in ("x.zip", "y.zip")
    ]


def test_a_folder_of_a_store_is_read_like_a_local_one(write: Write) -> None:
    """Hidden names, partitions and table formats have the same meaning in every store."""
    content = write(COLUMNS).read_bytes()
    store = fsspec.filesystem("memory")
    for name in ("d=1/a.parquet", "_k=1/b.parquet", "_tmp/c.parquet", "notes.txt", "part-0"):
        store.pipe(f"/lake/{name}", content)
    try:
        listing = find_files(["memory://lake"])
        found = find_files(["memory://lake/*/*.parquet"])
        doubled = find_files(["memory://lake/d=1/a.parquet", "memory://lake", "memory://lake"])
        store.pipe("/lake/deep/_delta_log/0.json", b"{}")
        with pytest.raises(CorpusError, match="Delta"):
            find_files(["memory://lake"])
    finally:
        store.rm("/lake", recursive=True)

    paths = ["memory:///lake/_k=1/b.parquet", "memory:///lake/d=1/a.parquet"]
    assert [file.name for file in listing.files] == [*paths, "memory:///lake/part-0"]
    assert [file.name for file in found.files] == paths
    assert len(doubled.files) == len(listing.files)
    assert {file.name for file in listing.left_out} == {
        "memory:///lake/_tmp/",
        "memory:///lake/notes.txt",
    }


def test_a_path_with_url_characters_is_a_path(write: Write) -> None:
    """`#`, `?`, `::` and brackets have no meaning in the name of an existing file."""
    for name in ("a#b.parquet", "a?b=c.parquet", "a::b.parquet", "train[v1].parquet"):
        file = write(COLUMNS, name)

        assert [source.name for source in find_files([str(file)]).files] == [str(file)]


def test_the_output_folder_is_left_out_through_links_too(write: Write, lake: Path) -> None:
    """Without a note, because it is expected there."""
    write(COLUMNS, "lake/scored/predictions/part-00000.parquet")
    (lake / "last").symlink_to("scored")
    listing = find_files([str(lake)], leave_out=lake / "scored")

    assert names(listing, lake) == ["day=1/a.parquet"]
    assert listing.left_out_count == 0


def test_listing_can_be_stopped_at_every_name(write: Write, tmp_path: Path) -> None:
    """A deadline or a signal ends the listing of a large folder."""
    for number in range(5):
        write(COLUMNS, f"many/{number}.parquet")
    looks = iter(range(3))

    def check_stop() -> None:
        if next(looks, None) is None:
            raise StoppedError("stopped")

    with pytest.raises(StoppedError):
        find_files([str(tmp_path / "many")], check_stop=check_stop)


def test_names_in_messages_cannot_forge_log_lines(tmp_path: Path) -> None:
    """Line breaks and escape sequences in a file name are escaped."""
    folder = tmp_path / "a\x1b[31m\nError: b"
    folder.mkdir()
    with pytest.raises(CorpusError) as error:
        find_files([str(folder)])

    assert "\\x1b[31m\\nError: b" in error.value.message
    assert "\n" not in error.value.message


def test_a_name_that_is_not_utf8_can_be_recorded(lake: Path) -> None:
    """Every file that is left out is listed in `run.json`, whatever its name."""
    (lake / "\udcff.txt").touch()
    (left_out,) = find_files([str(lake)]).left_out

    assert left_out.name.encode("utf-8").endswith(b"\\udcff.txt")


def test_a_modification_time_in_the_future_is_settled(lake: Path) -> None:
    """A wrong clock on another machine does not cause files to be hashed twice in every run."""
    file = lake / "day=1" / "a.parquet"
    later = time.time_ns() + 10**9 * 86_400 * 365
    os.utime(file, ns=(later, later))
    time.sleep(2.1)  # for its other time, which nothing can set

    assert find_files([str(file)]).files[0].version.is_settled


@pytest.mark.parametrize(
    ("entry", "name"),
    [
        ("simplecache::file://{}/a.parquet", "simplecache::file://{}/a.parquet"),
        ("simplecache::{}/a.parquet", "simplecache::{}/a.parquet"),
        ("dir://a.parquet::{}", "dir://a.parquet::{}"),
        ("dir://*::file://{}", "dir://a.parquet::file://{}"),
    ],
)
def test_a_chained_url_is_named_completely(write: Write, entry: str, name: str) -> None:
    """The name can be used as an argument of the command again."""
    folder = write(COLUMNS, "only/a.parquet").parent
    (file,) = find_files([entry.format(folder)]).files

    assert file.name == name.format(folder)
    assert len(find_files([file.name]).files) == 1


class Forbidding(LocalFileSystem):  # type: ignore[misc]
    """A store that lists every folder except one, for which it raises a permission error."""

    protocol = "forbidding"

    def ls(self, path: str, detail: bool = False, **kwargs: Any) -> Any:
        if path.rstrip("/").endswith("day=2"):
            raise PermissionError(13, "Access Denied", path)
        return super().ls(path, detail=detail, **kwargs)


def test_a_folder_of_a_store_that_cannot_be_listed_is_an_error(
    write: Write, lake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """fsspec's own walk skips it silently; here the error names it."""
    monkeypatch.setitem(_registry, "forbidding", Forbidding)
    write(COLUMNS, "lake/day=2/b.parquet")
    for entry in ("", "/*", "/**/*.parquet"):
        with pytest.raises(CorpusError, match=r"day=2 cannot be listed: Permission denied"):
            find_files([f"forbidding://{lake}{entry}"])


def test_links_and_pipes_of_a_store_are_treated_as_local_ones(
    write: Write, lake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store may list links as neither files nor folders; their targets are used."""
    monkeypatch.setitem(_registry, "forbidding", Forbidding)
    (lake / "day=3").symlink_to(write(COLUMNS, "store/b.parquet").parent)
    listing = find_files([f"forbidding://{lake}"])

    assert keys(listing) == [{"day": "1"}, {"day": "3"}]
    (lake / "day=4").symlink_to("nowhere")
    with pytest.raises(CorpusError, match="day=4: is a link to something that does not exist"):
        find_files([f"forbidding://{lake}"])
    (lake / "day=4").unlink()
    os.mkfifo(lake / "pipe.parquet")
    with pytest.raises(CorpusError, match=r"pipe.parquet: is .* not a regular file"):
        find_files([f"forbidding://{lake}"])


def test_a_file_that_cannot_be_opened_is_an_error(open_folder: Path) -> None:
    """The message has the reason, and does not call the file damaged."""
    (open_folder / "a.parquet").touch(mode=0o000)
    (file,) = find_files([str(open_folder)]).files
    with (
        without_root(),
        pytest.raises(CorpusError, match=r"a.parquet: cannot be opened: Permission denied"),
    ):
        read_footer(file)
