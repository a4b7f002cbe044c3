"""A run that was stopped, by whatever means, is finished by the same command: nothing twice,
nothing lost, and the folder is the one of a run that was never stopped.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result
from filelock import FileLock

from batch.cli import main

Write = Callable[..., Path]
Score = Callable[..., pa.Table]
Words = Callable[..., list[str]]
Command = Callable[..., Result]
Contents = Callable[[Path], dict[str, bytes]]

OPTIONS: dict[str, Any] = {
    "chunk_rows": 2,
    "max_tokens_per_batch": 256,
    "threads": 1,
    "gold_column": "narratives",
    "max_quarantined": 1,
}
"""Chunks of two rows, so that a run is stopped in many places."""


@pytest.fixture(scope="module")
def corpus(sample: pa.Table, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """96 rows, some of them empty or for quarantine, in row groups that cut across chunks."""
    texts = [text.encode() for text in sample.column("text").to_pylist()]
    texts[5], texts[17], texts[18] = b"\xff", b"", b"\xff"
    rows = sample.set_column(2, "text", pa.array(texts))
    path = tmp_path_factory.mktemp("stopped") / "corpus.parquet"
    pq.write_table(pa.concat_tables([rows] * 2), path, row_group_size=25)
    return path


@pytest.fixture(scope="module")
def original(corpus: Path, words: Words, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The finished folder of a run that was never stopped; not to be changed."""
    output = tmp_path_factory.mktemp("stopped") / "original"
    result = CliRunner().invoke(main, words(corpus, **OPTIONS, output=output)[1:])
    assert result.exit_code == 0, result.output
    return output


@pytest.fixture
def uninterrupted(original: Path, tmp_path: Path) -> Path:
    """A copy of the folder of a run that was never stopped."""
    return Path(shutil.copytree(original, tmp_path / "uninterrupted"))


def finished_chunks(output: Path) -> int:
    """Chunks that have a marker."""
    return len(list((output / ".narrascan" / "done").glob("[0-9]*.json")))


def wait_for_chunks(process: subprocess.Popen[str], output: Path, chunks: int) -> None:
    """Wait until that many chunks are finished, or the process has ended."""
    while process.poll() is None and finished_chunks(output) < chunks:
        time.sleep(0.001)


@contextmanager
def running(words: list[str]) -> Iterator[subprocess.Popen[str]]:
    """A real process of `batch-classify`; killed if the test leaves it behind."""
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        with process:
            yield process
            process.kill()
    except BaseException:
        process.kill()
        raise


def signalled(command: list[str], output: Path, number: signal.Signals) -> tuple[int, str]:
    """Send a signal after two chunks. Returns the exit code and what was said on stderr."""
    with running(command) as process:
        wait_for_chunks(process, output, 2)
        process.send_signal(number)
        _, said = process.communicate()
        return process.returncode, said


def test_kills_leave_no_trace(
    corpus: Path,
    uninterrupted: Path,
    words: Words,
    batch_classify: Command,
    tmp_path: Path,
    contents: Contents,
) -> None:
    """After `kill -9` at three random moments, and once when only the report is missing, no part is
    half-written, and in the end the folder is that of an uninterrupted run.
    """
    output, rng = tmp_path / "killed", random.Random(20)
    command = words(corpus, **OPTIONS, output=output)
    codes, half_written, whole = [], [], contents(uninterrupted)
    for kill in range(4):
        with running(command) as process:
            more = rng.randint(1, 8) if kill < 3 else 48
            wait_for_chunks(process, output, min(finished_chunks(output) + more, 48))
            time.sleep(rng.random() / 100)
            process.kill()
            codes.append(process.wait())
        left = contents(output / "predictions") if output.exists() else {}
        half_written += [name for name in left if left[name] != whole[f"predictions/{name}"]]
    finished = batch_classify(corpus, **OPTIONS, output=output)

    assert -signal.SIGKILL in codes
    assert half_written == []
    assert finished.exit_code == 0, finished.output
    assert contents(output) == whole


def test_what_is_finished_is_not_scored_again(
    corpus: Path, words: Words, batch_classify: Command, tmp_path: Path
) -> None:
    """A resumed run leaves the parts of the killed one as they lie on the disk."""
    output = tmp_path / "killed"
    command = words(corpus, **OPTIONS, output=output)
    with running(command) as process:
        wait_for_chunks(process, output, 10)
        process.kill()
        process.wait()
    kept = {path: path.stat().st_ino for path in (output / ".narrascan" / "done").glob("*.json")}
    finished = batch_classify(corpus, **OPTIONS, output=output)

    assert finished.exit_code == 0
    assert len(kept) >= 10
    assert f"resuming: {2 * len(kept)} of 96 rows are finished" in finished.stderr
    assert {path: path.stat().st_ino for path in kept} == kept


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_a_polite_stop_ends_with_exit_4_and_can_be_resumed(
    corpus: Path,
    uninterrupted: Path,
    score: Score,
    words: Words,
    tmp_path: Path,
    contents: Contents,
    number: signal.Signals,
) -> None:
    """The scheduler's signal is obeyed between batches."""
    output = tmp_path / "stopped"
    code, said = signalled(words(corpus, **OPTIONS, output=output), output, number)
    unfinished = not (output / "run.json").exists()
    score(corpus, **OPTIONS, output=output)

    assert code == 4, said
    assert f"stopped by {number.name}" in said
    assert unfinished
    assert contents(output) == contents(uninterrupted)


def test_a_crashing_library_is_named_and_the_run_can_be_resumed(
    corpus: Path,
    uninterrupted: Path,
    score: Score,
    words: Words,
    tmp_path: Path,
    contents: Contents,
) -> None:
    """A process that ends with SIGSEGV says in which call it was."""
    output = tmp_path / "fallen"
    code, said = signalled(words(corpus, **OPTIONS, output=output), output, signal.SIGSEGV)
    score(corpus, **OPTIONS, output=output)

    assert code == -signal.SIGSEGV, said
    assert "Segmentation fault" in said
    assert '.py", line' in said
    assert contents(output) == contents(uninterrupted)


def test_a_deadline_ends_with_exit_4_and_can_be_resumed(
    corpus: Path,
    uninterrupted: Path,
    batch_classify: Command,
    score: Score,
    tmp_path: Path,
    contents: Contents,
) -> None:
    """Without a deadline the same command finishes the work."""
    output = tmp_path / "stopped"
    result = batch_classify(corpus, **OPTIONS, output=output, deadline="0s")
    score(corpus, **OPTIONS, output=output)

    assert result.exit_code == 4
    assert "the deadline is reached" in result.stderr
    assert "hint: the same command resumes" in result.stderr
    assert contents(output) == contents(uninterrupted)


def test_a_held_folder_turns_other_runs_away(corpus: Path, words: Words, tmp_path: Path) -> None:
    """A second process ends with exit 5 and touches nothing; --overwrite is no way around it."""
    work = tmp_path / "scored" / ".narrascan"
    work.mkdir(parents=True)
    with FileLock(work / "lock"):
        command = words(corpus, **OPTIONS, output=tmp_path / "scored", overwrite=True)
        second = subprocess.run(command, capture_output=True, text=True, check=False)

    assert second.returncode == 5
    assert f"{tmp_path / 'scored'}: another run has locked this folder" in second.stderr
    assert {path.name for path in work.iterdir()} <= {"lock"}


def test_the_holder_of_a_folder_is_named_and_not_disturbed(
    corpus: Path,
    uninterrupted: Path,
    batch_classify: Command,
    words: Words,
    tmp_path: Path,
    contents: Contents,
) -> None:
    """A paused run keeps its lock, and finishes once it is continued."""
    output = tmp_path / "held"
    with running(words(corpus, **OPTIONS, output=output)) as first:
        wait_for_chunks(first, output, 2)
        first.send_signal(signal.SIGSTOP)
        second = batch_classify(corpus, **OPTIONS, output=output)
        first.send_signal(signal.SIGCONT)
        code = first.wait()

    assert second.exit_code == 5
    assert f"(process {first.pid} on {os.uname().nodename}, since 20" in second.stderr
    assert code == 0
    assert contents(output) == contents(uninterrupted)


def test_a_killed_owner_is_named_and_blocks_nobody(
    corpus: Path, batch_classify: Command, words: Words, tmp_path: Path
) -> None:
    """The lock died with it; its name is left, and is reported once by the run that resumes."""
    output = tmp_path / "killed"
    with running(words(corpus, **OPTIONS, output=output)) as first:
        wait_for_chunks(first, output, 2)
        first.kill()
        first.wait()
    resumed = batch_classify(corpus, **OPTIONS, output=output)
    again = batch_classify(corpus, **OPTIONS, output=output)

    assert resumed.exit_code == 0, resumed.output
    assert f"{output}: process {first.pid} on {os.uname().nodename}, since 20" in resumed.stderr
    assert "exited without releasing the lock" in resumed.stderr
    assert "exited without releasing the lock" not in again.stderr


DAMAGES = {
    "part deleted": ("predictions/part-00003.parquet", None),
    "part emptied": ("predictions/part-00003.parquet", b""),
    "part replaced": ("predictions/part-00003.parquet", b"PAR1"),
    "quarantine deleted": ("quarantine/part-00002.parquet", None),
    "quarantine changed": ("quarantine/part-00002.parquet", b"PAR1"),
    "marker deleted": (".narrascan/done/00003.json", None),
    "marker emptied": (".narrascan/done/00003.json", b""),
    "marker of no run": (".narrascan/done/00003.json", b'{"index": 3}'),
    "marker no text": (".narrascan/done/00003.json", b"\xff"),
    "owner no text": (".narrascan/owner.json", b"\xff"),
    "run.json deleted": ("run.json", None),
    "run.json damaged": ("run.json", b'{"status": "finished"'),
    "run.json of no run": ("run.json", b"[]"),
    "report.json deleted": ("report.json", None),
    "report.json damaged": ("report.json", b"{"),
    "report.html emptied": ("report.html", b""),
    "hashes of the last files damaged": (".narrascan/published.json", b"{"),
    "temporary file left": (".narrascan/done/.00003.json.tmp", b"{"),
    "scratch left": (".narrascan/scratch/.part-00003.parquet.tmp", b"PAR1"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_repaired_by_the_same_command(
    corpus: Path, uninterrupted: Path, score: Score, contents: Contents, damage: str
) -> None:
    """What is missing or is not what its marker says is scored again, and only that."""
    name, content = DAMAGES[damage]
    whole = contents(uninterrupted)
    kept = uninterrupted / "predictions" / "part-00040.parquet"
    inode = kept.stat().st_ino
    path = uninterrupted / name
    path.parent.mkdir(exist_ok=True)
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    score(corpus, **OPTIONS, output=uninterrupted)

    assert contents(uninterrupted) == whole
    assert kept.stat().st_ino == inode


@pytest.mark.parametrize(
    ("found", "changed"),
    [
        ('"rows":2', '"rows":1'),
        ('"values":"A', '"values":"B'),
        ('"totals":', '"total":'),
        (',"sha256":', ',"sha":'),
    ],
)
def test_a_changed_marker_does_not_count(
    corpus: Path, uninterrupted: Path, score: Score, contents: Contents, found: str, changed: str
) -> None:
    """Numbers that are still numbers differ from the marker's own hash: no report counts them."""
    whole = contents(uninterrupted)
    path = uninterrupted / ".narrascan" / "done" / "00003.json"
    head, there, tail = path.read_text(encoding="utf-8").rpartition(found)
    path.write_text(head + changed + tail, encoding="utf-8")
    (uninterrupted / "run.json").unlink()
    score(corpus, **OPTIONS, output=uninterrupted)

    assert there
    assert contents(uninterrupted) == whole


def test_a_chunk_does_not_pass_for_another(
    corpus: Path, uninterrupted: Path, score: Score, contents: Contents
) -> None:
    """A marker and its part under the name of other ones are scored again."""
    whole = contents(uninterrupted)
    for folder, suffix in ((".narrascan/done/", "json"), ("predictions/part-", "parquet")):
        source, target = (f"{folder}0000{number}.{suffix}" for number in (4, 3))
        shutil.copyfile(uninterrupted / source, uninterrupted / target)
    score(corpus, **OPTIONS, output=uninterrupted)

    assert contents(uninterrupted) == whole


def test_every_row_is_in_exactly_one_place(
    corpus: Path, uninterrupted: Path, read_parts: Callable[[Path], pa.Table]
) -> None:
    """Predictions and quarantine together hold each row of the corpus once."""
    found = [
        row
        for folder in ("predictions", "quarantine")
        for row in read_parts(uninterrupted / folder).column("source_row").to_pylist()
    ]

    assert sorted(found) == list(range(96))


def test_a_part_does_not_depend_on_where_reading_began(
    write: Write, score: Score, tmp_path: Path, contents: Contents
) -> None:
    """Columns of megabytes over small row groups, with dictionaries that differ among them, are
    written to the same bytes by a resumed run.
    """
    rng, rows = random.Random(3), 2000
    pages = [rng.randbytes(1500).hex() for _ in range(rows)]
    topics = pa.array([f"{row // 300}-{row % 7}" for row in range(rows)]).dictionary_encode()
    columns = {"text": ["Aid is wasted."] * rows, "page": pages, "topic": topics}
    corpus, output = write(columns, row_group_size=300), tmp_path / "scored"
    score(corpus, chunk_rows=1000, output=output)
    whole = contents(output)
    for chunk in range(2):
        (output / ".narrascan" / "done" / f"0000{chunk}.json").unlink()
        score(corpus, chunk_rows=1000, output=output)

    assert contents(output) == whole


def test_a_copy_of_a_finished_folder_is_finished(
    corpus: Path, uninterrupted: Path, batch_classify: Command
) -> None:
    """The folder can be moved; nothing in it says where it lies."""
    result = batch_classify(corpus, **OPTIONS, output=uninterrupted)

    assert result.exit_code == 0
    assert "already complete" in result.stderr
