"""Output folders that cannot be used, or belong to another run, and disks that fill up."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from batch.cli import main
from batch.output.parts import part_name

Write = Callable[..., Path]
Score = Callable[..., pa.Table]
Words = Callable[..., list[str]]
Command = Callable[..., Result]
Contents = Callable[[Path], dict[str, bytes]]

TEXTS = ["Aid is wasted by officials.", "Sanctions hurt us.", "Talks now, or war for ever."]


def test_an_output_path_that_is_a_file_is_reported(
    write: Write, batch_classify: Command, tmp_path: Path
) -> None:
    """The file is left as it is."""
    output = tmp_path / "scored"
    output.write_text("mine", encoding="utf-8")
    result = batch_classify(write({"text": TEXTS}), output=output)

    assert result.exit_code == 2
    assert f"'{output}' is a file" in result.stderr
    assert output.read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize("output", ["corpus.parquet/below", "n" * 300, "/proc/scored"])
def test_an_output_folder_that_cannot_be_made_is_reported(
    write: Write, batch_classify: Command, tmp_path: Path, output: str
) -> None:
    """Below a file, with a name too long, or where nobody may write: exit 1, no traceback."""
    result = batch_classify(write({"text": TEXTS}), output=tmp_path / output)

    assert result.exit_code == 1
    assert output in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_with_other_files_is_left_alone(
    write: Write, batch_classify: Command, tmp_path: Path, contents: Contents, overwrite: bool
) -> None:
    """Nothing is written there or removed, not even with --overwrite."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "predictions").write_text("mine", encoding="utf-8")
    options = {"overwrite": True} if overwrite else {}
    result = batch_classify(write({"text": TEXTS}), output=tmp_path / "mine", **options)

    assert result.exit_code == 1
    assert f"{tmp_path / 'mine'}: contains files that are not of a narrascan run" in result.stderr
    assert contents(tmp_path / "mine") == {"predictions": b"mine"}


def test_the_folder_of_the_corpus_is_no_output_folder(
    write: Write, batch_classify: Command, tmp_path: Path
) -> None:
    """A corpus is never mixed with what is found in it."""
    corpus = write({"text": TEXTS}, "data/a.parquet")
    result = batch_classify(corpus, output=tmp_path / "data")

    assert result.exit_code == 1
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["a.parquet"]


OTHER_RUNS: list[tuple[dict[str, Any], str]] = [
    ({"keep_text": True}, "options.keep_text: was False, is True"),
    ({"chunk_rows": 2}, "options.chunk_rows: was 4096, is 2"),
    ({"max_tokens_per_batch": 2048}, "options.max_tokens_per_batch: was 512, is 2048"),
    ({"id_column": "n"}, "options.id_column: was article_id, is n"),
    ({"gold_column": "gold"}, "options.gold_column: was not there, is gold"),
    ({"task": "entity_framing"}, "task: was narrative, is entity_framing"),
]
COLUMNS = {
    "text": TEXTS,
    "n": [1, 2, 3],
    "gold": [["Other"]] * 3,
    "start": [0, 0, 0],
    "end": [3, 3, 3],
}


@pytest.mark.parametrize(("other", "difference"), OTHER_RUNS, ids=lambda value: str(value)[:30])
def test_the_folder_of_another_run_says_what_differs(
    write: Write,
    batch_classify: Command,
    score: Score,
    tmp_path: Path,
    contents: Contents,
    other: dict[str, Any],
    difference: str,
) -> None:
    """Nothing is touched without --overwrite; with it, only the new run is left."""
    corpus, output = write(COLUMNS), tmp_path / "scored"
    score(corpus, output=output)
    before = contents(output)
    refused = batch_classify(corpus, output=output, **other)
    untouched = contents(output) == before
    score(corpus, output=output, overwrite=True, **other)
    score(corpus, output=tmp_path / "fresh", **other)

    assert refused.exit_code == 1
    assert f"{output}: contains another run; what differs:\n  {difference}" in refused.stderr
    assert "--overwrite" in refused.stderr
    assert untouched
    assert contents(output) == contents(tmp_path / "fresh")


def test_a_changed_or_added_input_is_another_run(
    write: Write, batch_classify: Command, score: Score, tmp_path: Path
) -> None:
    """A corpus that grew, or a file whose bytes changed, is named."""
    first = write({"text": TEXTS}, "a.parquet")
    score(first, output=tmp_path / "scored")
    more = batch_classify(first, write({"text": TEXTS}, "b.parquet"), output=tmp_path / "scored")
    write({"text": [*TEXTS[:2], "Another text."]}, "a.parquet")
    changed = batch_classify(first, output=tmp_path / "scored")

    assert (more.exit_code, changed.exit_code) == (1, 1)
    assert f"inputs.{tmp_path / 'b.parquet'}: was not there" in more.stderr
    assert f"inputs.{first}.fingerprint: was sha256:" in changed.stderr


def test_another_bundle_is_another_run(
    write: Write,
    batch_classify: Command,
    score: Score,
    tmp_path: Path,
    edit_bundle: Callable[..., Path],
) -> None:
    """Scores of two models never stand in one folder."""
    corpus = write({"text": TEXTS})
    score(corpus, output=tmp_path / "scored")
    edited = edit_bundle(props={"thresholds": [0.5] * 17})
    result = batch_classify(corpus, output=tmp_path / "scored", bundle=edited)

    assert result.exit_code == 1
    assert "bundle_sha256: was " in result.stderr


@pytest.mark.parametrize("options", [{"threads": 1}, {"max_quarantined": 1}, {"deadline": "1h"}])
def test_options_that_shape_nothing_make_no_other_run(
    write: Write, score: Score, tmp_path: Path, contents: Contents, options: dict[str, Any]
) -> None:
    """A folder may be finished with other threads, another deadline or another tolerance."""
    corpus, output = write({"text": TEXTS}), tmp_path / "scored"
    score(corpus, output=output)
    before = contents(output)
    score(corpus, output=output, **options)

    assert contents(output) == before


@pytest.mark.parametrize("damage", ["{", '{"a": ' * 400 + "0" + "}" * 400], ids=["cut", "deep"])
def test_a_damaged_record_of_the_run_is_reported(
    damage: str, write: Write, batch_classify: Command, score: Score, tmp_path: Path
) -> None:
    """Without it nobody knows whose parts these are; --overwrite starts again."""
    corpus, output = write({"text": TEXTS}), tmp_path / "scored"
    score(corpus, output=output)
    key = output / ".narrascan" / "key.json"
    key.write_text(damage, encoding="utf-8")
    result = batch_classify(corpus, output=output)

    assert result.exit_code == 1
    assert f"{key}: is damaged" in result.stderr
    assert score(corpus, output=output, overwrite=True).num_rows == 3


def test_an_overwrite_that_was_killed_leaves_no_old_part_in_use(
    write: Write,
    batch_classify: Command,
    score: Score,
    words: Words,
    tmp_path: Path,
    contents: Contents,
) -> None:
    """Killed at each of its steps: either the earlier run is whole still, or none of it counts."""
    corpus, output = write({"text": TEXTS}), tmp_path / "scored"
    score(corpus, chunk_rows=1, output=tmp_path / "fresh")
    ends = []
    for step in range(7):
        score(corpus, output=output, overwrite=True)
        earlier = contents(output / "predictions")
        command = words(corpus, chunk_rows=1, output=output, overwrite=True)[1:]
        program = [sys.executable, "-c", KILLED_AT_UNLINK.format(step)]
        killed = subprocess.run([*program, *command], capture_output=True, check=False)
        ends.append(batch_classify(corpus, chunk_rows=1, output=output).exit_code)

        assert killed.returncode == -signal.SIGKILL
        if ends[-1] == 0:
            assert contents(output) == contents(tmp_path / "fresh")
        else:
            assert contents(output / "predictions") == earlier
    assert set(ends) == {0, 1}


def test_a_folder_whose_key_is_lost_keeps_its_parts(
    write: Write, batch_classify: Command, score: Score, tmp_path: Path, contents: Contents
) -> None:
    """Nobody knows which run they are of, so only --overwrite discards them."""
    corpus, output = write({"text": TEXTS}), tmp_path / "scored"
    score(corpus, output=output)
    (output / ".narrascan" / "key.json").unlink()
    before = contents(output / "predictions")
    refused = batch_classify(corpus, output=output)
    after = contents(output / "predictions")

    assert refused.exit_code == 1
    assert f"{output}: key.json, which says of which run its parts are, is lost" in refused.stderr
    assert "hint: discard them with --overwrite" in refused.stderr
    assert after == before
    assert score(corpus, output=output, overwrite=True).num_rows == 3


STRAYS = [
    "predictions/part-00007.parquet",
    "predictions/mine.parquet",
    "predictions/notes.txt",
    "predictions/more/part-00000.parquet",
    "quarantine/part-00000.parquet",
]


@pytest.mark.parametrize("stray", STRAYS)
@pytest.mark.parametrize("finished", [False, True])
def test_a_file_that_readers_would_count_is_not_part_of_a_finished_run(
    write: Write,
    batch_classify: Command,
    score: Score,
    tmp_path: Path,
    stray: str,
    finished: bool,
) -> None:
    """It is named, and neither removed nor passed over; without it the same command finishes."""
    corpus, output = write({"text": TEXTS}), tmp_path / "scored"
    score(corpus, output=output)
    if not finished:
        (output / ".narrascan" / "done" / "00000.json").unlink()
    path = output / stray
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(next(output.glob("predictions/*.parquet")).read_bytes())
    refused = batch_classify(corpus, output=output)
    left = path.exists()
    if path.parent.name == "more":
        shutil.rmtree(path.parent)
    else:
        path.unlink()

    assert refused.exit_code == 1
    assert "contains files that this run did not write" in refused.stderr
    assert left
    assert score(corpus, output=output).num_rows == 3


@pytest.mark.parametrize("chunks", [1, 100_000, 100_001, 1_000_001])
def test_part_names_sort_as_the_chunks_do(chunks: int) -> None:
    """However many there are: readers sort by name."""
    indices = sorted({0, 9, 10, min(99_999, chunks - 1), min(100_000, chunks - 1), chunks - 1})
    names = [part_name(index, chunks=chunks) for index in indices if index < chunks]

    assert names == sorted(names)
    assert part_name(0, chunks=min(chunks, 100_000)) == "part-00000.parquet"


NO_FOLDER_SYNC = """
import errno, os, stat
real = os.fsync
def fsync(descriptor):
    if stat.S_ISDIR(os.fstat(descriptor).st_mode):
        raise OSError(errno.{0}, os.strerror(errno.{0}))
    real(descriptor)
os.fsync = fsync
from batch.cli import main
main()
"""


def test_a_file_system_without_folder_sync_is_no_reason_to_end(
    write: Write, words: Words, tmp_path: Path, contents: Contents, score: Score
) -> None:
    """SMB and FUSE answer EINVAL; the names are there all the same."""
    corpus = write({"text": TEXTS})
    command = words(corpus, output=tmp_path / "scored")[1:]
    program = [sys.executable, "-c", NO_FOLDER_SYNC.format("EINVAL")]
    run = subprocess.run([*program, *command], capture_output=True, text=True, check=False)
    score(corpus, output=tmp_path / "fresh")

    assert run.returncode == 0, run.stderr
    assert contents(tmp_path / "scored") == contents(tmp_path / "fresh")


def test_a_fault_of_the_disk_is_called_one(write: Write, words: Words, tmp_path: Path) -> None:
    """The hint follows the true reason; nobody makes room on a broken disk."""
    command = words(write({"text": TEXTS}), output=tmp_path / "scored")[1:]
    program = [sys.executable, "-c", NO_FOLDER_SYNC.format("EIO")]
    run = subprocess.run([*program, *command], capture_output=True, text=True, check=False)

    assert run.returncode == 1
    assert "Input/output error" in run.stderr
    assert "reports an I/O error" in run.stderr
    assert "free some disk space" not in run.stderr


@pytest.mark.parametrize("url", ["s3://bucket/out", "file:///tmp/out", "hdfs://host/out"])
def test_a_url_as_output_is_refused_before_anything_else(
    batch_classify: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    """Also where the corpus is missing: no local folder `s3:` is made."""
    monkeypatch.chdir(tmp_path)
    results = [
        batch_classify("missing.parquet", output=url),
        CliRunner().invoke(main, ["merge", "1", "2", "--output", url]),
        batch_classify("missing.parquet", cache=url),
    ]

    assert [result.exit_code for result in results] == [2, 2, 2]
    assert all(url in result.stderr for result in results)
    assert list(tmp_path.iterdir()) == []


KILLED_AT_UNLINK = """
import os, shutil, signal
from pathlib import Path
steps = iter(range({0}, -1, -1))
def killing(real):
    def remove(*arguments, **options):
        if next(steps) == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments, **options)
    return remove
Path.unlink, shutil.rmtree = killing(Path.unlink), killing(shutil.rmtree)
from batch.cli import main
main()
"""


LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, ({0}, {0}))
from batch.cli import main
main()
"""


@pytest.mark.parametrize(
    ("limit_bytes", "failed"),
    [(700, "key.json"), (12_000, "report"), (60_000, "predictions/part-00001.parquet")],
)
def test_a_full_disk_leaves_nothing_half_written_and_the_same_command_resumes(
    write: Write,
    score: Score,
    words: Words,
    tmp_path: Path,
    contents: Contents,
    limit_bytes: int,
    failed: str,
) -> None:
    """Where a file cannot grow beyond a limit, the run ends with exit 1 and the file's name."""
    long = random.Random(1).randbytes(80_000).hex() if "part" in failed else "Short."
    corpus = write({"text": [*TEXTS, long], "n": [0, 1, 2, 3]})
    options = {"chunk_rows": 2, "keep_text": True, "output": tmp_path / "scored"}
    limited = [sys.executable, "-c", LIMITED.format(limit_bytes)]
    full = subprocess.run(
        [*limited, *words(corpus, **options)[1:]], capture_output=True, text=True, check=False
    )
    left = contents(tmp_path / "scored")
    rows = [
        pq.read_metadata(path).num_rows for path in tmp_path.glob("scored/predictions/*.parquet")
    ]
    score(corpus, **options)
    score(corpus, **{**options, "output": tmp_path / "fresh"})

    assert full.returncode == 1, full.stderr
    assert f"Error: {tmp_path / 'scored'}" in full.stderr
    assert failed in full.stderr
    assert "the same command again" in full.stderr
    assert "Traceback" not in full.stderr
    assert not [name for name in left if name.endswith(".tmp") or name == "run.json"]
    assert all(count == 2 for count in rows)
    assert contents(tmp_path / "scored") == contents(tmp_path / "fresh")


def test_run_json_is_the_last_file_of_all(
    write: Write, batch_classify: Command, tmp_path: Path
) -> None:
    """A run that cannot write what it records of its reports does not say that it is finished."""
    corpus, output = write({"text": TEXTS}), tmp_path / "scored"
    batch_classify(corpus, output=output)
    (output / "run.json").unlink()
    published = output / ".narrascan" / "published.json"
    published.unlink()
    published.mkdir()
    result = batch_classify(corpus, output=output)

    assert result.exit_code == 1
    assert f"{published}: cannot be written" in result.stderr
    assert not (output / "run.json").exists()
