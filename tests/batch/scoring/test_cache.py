"""Logit cache: bit-identical scores, and no error of the cache ends or changes a run."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import stat
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from click.testing import Result

from batch.scoring.cache import LogitCache
from schemas.arrays import Float32Array, Int32Array
from tests.exporting import export_classifier

Write = Callable[..., Path]
Score = Callable[..., pa.Table]
Words = Callable[..., list[str]]
Command = Callable[..., Result]
Contents = Callable[[Path], dict[str, bytes]]

OPTIONS: dict[str, Any] = {"chunk_rows": 20, "threads": 1, "precision": "fp32"}
MODEL = b"m" * 32


def text(number: int) -> Int32Array:
    """Token ids of a unique text."""
    return np.array([101, number, 7, 102], dtype=np.int32)


def logits(number: int) -> Float32Array:
    """Logits of that text."""
    return np.array([number, -number, 1 / (number + 1)] * 8, dtype=np.float32)


def file_bytes(folder: Path) -> int:
    """Size of all files of a cache."""
    return sum(path.stat().st_size for path in folder.iterdir())


@pytest.fixture
def notes() -> list[str]:
    """Notes of a cache."""
    return []


@pytest.fixture
def opened(tmp_path: Path, notes: list[str]) -> Iterator[Callable[..., LogitCache]]:
    """Opens the cache of the test's folder; closed at the end."""
    caches: list[LogitCache] = []

    def opened(identity: bytes = MODEL, *, max_bytes: int = 10**9) -> LogitCache:
        cache = LogitCache(tmp_path / "cache", identity, max_bytes=max_bytes, note=notes.append)
        caches.append(cache)
        return cache

    yield opened
    for cache in caches:
        cache.close()


def put(cache: LogitCache, numbers: range) -> None:
    """Add texts to the cache."""
    cache.put([text(number) for number in numbers], [logits(number) for number in numbers])


def known(cache: LogitCache, numbers: range) -> list[int]:
    """Numbers of the texts that are cached; their logits are checked."""
    found = cache.get([text(number) for number in numbers])
    right = [
        number
        for number, values in zip(numbers, found, strict=True)
        if values is not None and values.tobytes() == logits(number).tobytes()
    ]
    assert len(right) == sum(values is not None for values in found)
    return right


def test_a_run_with_a_cache_writes_the_same_bytes(
    sample: pa.Table,
    write: Write,
    batch_classify: Command,
    score: Score,
    tmp_path: Path,
    contents: Contents,
) -> None:
    """Empty, full, and filled by a run over other chunks of the same texts in another order."""
    corpus, cache = write(sample), tmp_path / "cache"
    score(corpus, **OPTIONS, output=tmp_path / "without")
    first = batch_classify(corpus, **OPTIONS, output=tmp_path / "empty", cache=cache)
    shuffled = write(sample.take(random.Random(4).sample(range(48), 48)), "shuffled.parquet")
    score(shuffled, **{**OPTIONS, "chunk_rows": 7}, cache=tmp_path / "other")
    second = batch_classify(corpus, **OPTIONS, output=tmp_path / "full", cache=cache)
    third = batch_classify(corpus, **OPTIONS, output=tmp_path / "shared", cache=tmp_path / "other")

    assert "cache: 0 of 48 texts were cached" in first.stderr
    assert "cache: 48 of 48 texts were cached" in second.stderr
    assert "cache: 48 of 48 texts were cached" in third.stderr
    for name in ("empty", "full", "shared"):
        assert contents(tmp_path / name) == contents(tmp_path / "without")


@pytest.mark.parametrize(
    "other", [{"max_tokens_per_batch": 2048}, {"task": "entity_framing"}, {"bundle": "edited"}]
)
def test_another_model_or_batch_shape_gets_no_hits(
    write: Write,
    batch_classify: Command,
    score: Score,
    tmp_path: Path,
    edit_bundle: Callable[..., Path],
    other: dict[str, Any],
) -> None:
    """Its logits may differ, so no entry is shared."""
    corpus = write({"text": ["Aid is wasted by officials."], "start": [0], "end": [3]})
    if "bundle" in other:
        other = {"bundle": edit_bundle(props={"thresholds": [0.5] * 17})}
    score(corpus, **OPTIONS, cache=tmp_path / "cache")
    options = {**OPTIONS, **other, "output": tmp_path / "other", "cache": tmp_path / "cache"}
    result = batch_classify(corpus, **options)

    assert result.exit_code == 0, result.output
    assert "cache: 0 of 1 texts were cached" in result.stderr


def test_added_texts_are_cached(opened: Callable[..., LogitCache], notes: list[str]) -> None:
    """Another cache object gets them, too, and another model does not."""
    put(opened(), range(10))

    assert known(opened(), range(12)) == list(range(10))
    assert known(opened(b"n" * 32), range(12)) == []
    assert notes == []


def test_the_size_is_bounded(
    opened: Callable[..., LogitCache], tmp_path: Path, notes: list[str]
) -> None:
    """With ten times the entries that fit, the files stay below the limit and are used."""
    cache = opened(max_bytes=400_000)
    for first in range(0, 20_000, 500):
        put(cache, range(first, first + 500))
    cache.close()

    assert file_bytes(tmp_path / "cache") <= 400_000
    assert len(known(opened(), range(19_000, 20_000))) == 1000
    assert notes == []


def test_the_least_recently_used_entry_is_evicted(opened: Callable[..., LogitCache]) -> None:
    """A text that is requested repeatedly stays."""
    cache = opened(max_bytes=400_000)
    for first in range(0, 20_000, 500):
        assert first == 0 or known(cache, range(100)) == list(range(100))
        put(cache, range(first, first + 500))

    assert known(cache, range(200)) == list(range(100))


def test_a_smaller_limit_is_applied_at_once(opened: Callable[..., LogitCache]) -> None:
    """The next run shrinks a cache that was allowed to be larger."""
    put(opened(), range(5000))
    cache = opened(max_bytes=100_000)
    put(cache, range(5000, 5001))

    assert 0 < len(known(cache, range(5001))) < 1000


def test_concurrent_runs_may_share_a_cache(
    sample: pa.Table, write: Write, score: Score, words: Words, tmp_path: Path, contents: Contents
) -> None:
    """Three processes over one corpus, each with its own output, write the same bytes."""
    corpus = write(pa.concat_tables([sample] * 2))
    options = {**OPTIONS, "chunk_rows": 4}
    score(corpus, **options, output=tmp_path / "alone")
    processes = [
        subprocess.Popen(
            words(corpus, **options, cache=tmp_path / "cache", output=tmp_path / f"run-{number}"),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(3)
    ]
    ended = [(process.communicate()[1], process.returncode) for process in processes]

    for number, (said, code) in enumerate(ended):
        assert code == 0, said
        assert "damaged" not in said
        assert "disabled for" not in said
        assert contents(tmp_path / f"run-{number}") == contents(tmp_path / "alone")


def overwrite(path: Path, first: int, replacement: bytes) -> None:
    """Change bytes of a file."""
    with path.open("r+b") as file:
        file.seek(first)
        file.write(replacement)


def overwrite_pages(path: Path) -> None:
    """Change every other page of a file but the first."""
    for first in range(4096, path.stat().st_size, 8192):
        overwrite(path, first, b"\xaa" * 4096)


def only_file(folder: Path) -> Path:
    """The database of a cache."""
    (path,) = folder.glob("logits-*.sqlite")
    return path


DAMAGES: dict[str, Callable[[Path], object]] = {
    "no database": lambda path: path.write_bytes(b"not a database" * 1000),
    "emptied": lambda path: path.write_bytes(b""),
    "cut short": lambda path: path.write_bytes(path.read_bytes()[:9000]),
    "header": lambda path: overwrite(path, 20, b"\xff" * 60),
    "every other page": overwrite_pages,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_cache_is_replaced_by_an_empty_one(
    opened: Callable[..., LogitCache], tmp_path: Path, notes: list[str], damage: str
) -> None:
    """There is a note, no wrong logits, and new entries are cached."""
    first = opened()
    put(first, range(2000))
    first.close()
    DAMAGES[damage](only_file(tmp_path / "cache"))
    cache = opened()
    known(cache, range(2000))
    put(cache, range(2000))
    put(cache, range(2000))
    cache.close()

    assert known(opened(), range(2000)) == list(range(2000))
    assert len(notes) <= 1
    assert all("is damaged and starts empty" in note for note in notes)
    assert notes or damage == "emptied"


@pytest.mark.parametrize("seed", range(20))
def test_flipped_bytes_never_give_wrong_logits(
    opened: Callable[..., LogitCache], tmp_path: Path, seed: int
) -> None:
    """Whichever byte of the file is changed, a text has its own logits or none."""
    first, rng = opened(), random.Random(seed)
    put(first, range(300))
    first.close()
    path = only_file(tmp_path / "cache")
    for _ in range(40):
        overwrite(path, rng.randrange(path.stat().st_size), rng.randbytes(1))
    cache = opened()
    known(cache, range(300))
    put(cache, range(300, 600))
    known(cache, range(600))


def test_a_changed_entry_is_replaced(
    opened: Callable[..., LogitCache], tmp_path: Path, notes: list[str]
) -> None:
    """Two texts whose logits were swapped, as by a disk error, are run again."""
    first = opened()
    put(first, range(2))
    first.close()
    with closing(sqlite3.connect(only_file(tmp_path / "cache"))) as database:
        (one, two) = database.execute("SELECT key, value FROM entries").fetchall()
        for key, value in ((one[0], two[1]), (two[0], one[1])):
            database.execute("UPDATE entries SET value = ? WHERE key = ?", (value, key))
        database.commit()
    cache = opened()
    before = known(cache, range(2))
    put(cache, range(2))

    assert before == []
    assert known(cache, range(2)) == [0, 1]
    assert notes == []


def test_a_run_continues_without_its_cache(
    sample: pa.Table,
    write: Write,
    batch_classify: Command,
    score: Score,
    tmp_path: Path,
    contents: Contents,
) -> None:
    """A damaged file, or a folder that cannot be created: a note, and the same output."""
    corpus = write(sample)
    score(corpus, **OPTIONS, output=tmp_path / "without", cache=tmp_path / "cache")
    overwrite(only_file(tmp_path / "cache"), 0, b"garbage" * 3000)
    damaged = batch_classify(
        corpus, **OPTIONS, output=tmp_path / "damaged", cache=tmp_path / "cache"
    )
    missing = batch_classify(
        corpus, **OPTIONS, output=tmp_path / "missing", cache="/proc/no/such/cache"
    )

    assert (damaged.exit_code, missing.exit_code) == (0, 0)
    assert "is damaged and starts empty" in damaged.stderr
    assert "disabled for the rest of this run" in missing.stderr
    for name in ("damaged", "missing"):
        assert contents(tmp_path / name) == contents(tmp_path / "without")


def test_a_cache_that_is_removed_while_in_use_does_no_harm(
    opened: Callable[..., LogitCache], tmp_path: Path
) -> None:
    """The run continues with or without it, and the next run has a valid cache."""
    cache = opened()
    put(cache, range(100))
    shutil.rmtree(tmp_path / "cache")
    put(cache, range(100, 200))
    known(cache, range(200))
    cache.close()
    put(opened(), range(50))

    assert known(opened(), range(50)) == list(range(50))


@pytest.mark.parametrize("size", ["much", "-1", "-2GB", "2 parsecs"])
def test_an_invalid_size_is_a_usage_error(
    write: Write, batch_classify: Command, tmp_path: Path, size: str
) -> None:
    """A number with a unit is expected."""
    result = batch_classify(write({"text": ["a"]}), cache_size=size, output=tmp_path / "scored")

    assert result.exit_code == 2
    assert "write 500MB or 2GB" in result.stderr


@pytest.fixture
def strict(
    bundle: Path, write: Write, batch_classify: Command, tmp_path: Path
) -> Callable[..., Result]:
    """Scores with a cache and a signed bundle whose signature is required."""
    key = tmp_path / "key"
    signed = Path(shutil.copytree(bundle, tmp_path / "signed"))
    export_classifier("keygen", key)
    export_classifier("sign", signed, "--key", key)
    corpus = write({"text": ["Aid is wasted by officials."]})

    def strict(cache: Path) -> Result:
        return batch_classify(
            corpus,
            **OPTIONS,
            bundle=signed,
            require_signature=key.with_name("key.pub"),
            cache=cache,
            output=tmp_path / "scored",
            overwrite=True,
        )

    return strict


def test_a_new_cache_is_private(
    strict: Callable[..., Result], opened: Callable[..., LogitCache], tmp_path: Path
) -> None:
    """Whatever the umask, with and without a required signature; so are its new parent folders."""
    before = os.umask(0)
    try:
        opened()
        result = strict(tmp_path / "new" / "deep")
    finally:
        os.umask(before)

    assert result.exit_code == 0, result.output
    for folder in ("cache", "new", "new/deep"):
        assert stat.S_IMODE((tmp_path / folder).stat().st_mode) == 0o700
    again = strict(tmp_path / "new" / "deep")
    assert again.exit_code == 0, again.output
    assert "cache: 1 of 1 texts were cached" in again.stderr


@pytest.mark.parametrize("mode", [0o020, 0o002])
@pytest.mark.parametrize("which", ["lock", "logits-0.sqlite", ".", ".."])
def test_a_cache_that_others_can_change_is_refused(
    strict: Callable[..., Result], tmp_path: Path, which: str, mode: int
) -> None:
    """The folder, a file in it, or the folder above; the hint removes the permission."""
    cache = tmp_path / "above" / "cache"
    assert strict(cache).exit_code == 0
    shutil.rmtree(tmp_path / "scored")
    path = (cache / which).resolve()
    path.chmod(path.stat().st_mode | mode)
    refused = strict(cache)

    assert refused.exit_code == 2, refused.output
    assert f"{path}: other users have write access" in refused.stderr
    assert f"hint: chmod go-w {path}" in refused.stderr
    assert not (tmp_path / "scored").exists()
    subprocess.run(["chmod", "go-w", str(path)], check=True)
    assert strict(cache).exit_code == 0


def test_journals_of_a_cache_are_checked_too(strict: Callable[..., Result], tmp_path: Path) -> None:
    """Their content becomes part of the database."""
    cache = tmp_path / "cache"
    assert strict(cache).exit_code == 0
    journal = cache / "logits-0.sqlite-wal"
    journal.touch()
    journal.chmod(0o666)
    result = strict(cache)

    assert result.exit_code == 2
    assert f"{journal}: other users have write access" in result.stderr


def test_links_in_a_cache_are_refused(strict: Callable[..., Result], tmp_path: Path) -> None:
    """They may point to a file that another user can change."""
    cache = tmp_path / "cache"
    assert strict(cache).exit_code == 0
    path = only_file(cache)
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    result = strict(cache)

    assert result.exit_code == 2
    assert f"{path}: is neither a file nor a folder" in result.stderr


@pytest.mark.skipif(os.getuid() != 0, reason="only root may give files away")
@pytest.mark.parametrize("which", ["logits-0.sqlite", "."])
def test_a_cache_of_another_user_is_refused(
    strict: Callable[..., Result], tmp_path: Path, which: str
) -> None:
    """Whatever its mode, because the owner can change that."""
    cache = tmp_path / "cache"
    assert strict(cache).exit_code == 0
    os.chown(cache / which, 12345, -1)
    result = strict(cache)

    assert result.exit_code == 2
    assert "belongs to another user (uid 12345)" in result.stderr


def test_a_link_to_a_private_cache_is_followed(
    strict: Callable[..., Result], tmp_path: Path
) -> None:
    """Its target is checked and used."""
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "real")

    assert strict(tmp_path / "link").exit_code == 0
    assert only_file(tmp_path / "real")


def test_a_cache_that_cannot_be_checked_is_refused(strict: Callable[..., Result]) -> None:
    """If a signature is required; else a run continues without the cache."""
    result = strict(Path("/proc/no/such/cache"))

    assert result.exit_code == 2
    assert "its permissions cannot be checked, which --require-signature needs" in result.stderr


def test_without_a_required_signature_a_shared_cache_is_used(
    write: Write, batch_classify: Command, tmp_path: Path
) -> None:
    """A team may share one."""
    cache = tmp_path / "cache"
    cache.mkdir()
    cache.chmod(0o777)
    corpus = write({"text": ["Aid is wasted by officials."]})
    for output in ("first", "second"):
        result = batch_classify(corpus, **OPTIONS, cache=cache, output=tmp_path / output)
        assert result.exit_code == 0, result.output

    assert "cache: 1 of 1 texts were cached" in result.stderr
