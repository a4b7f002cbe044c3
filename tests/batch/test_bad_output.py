"""Output folders that cannot be used, or belong to another run, and disks that fill up."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import Result

Write = Callable[..., Path]
Score = Callable[..., pa.Table]
Words = Callable[..., list[str]]
Command = Callable[..., Result]
Contents = Callable[[Path], dict[str, bytes]]

TEXTS = ["Aid is wasted by officials.", "Sanctions hurt us.", "Talks now, or war for ever."]


def test_an_output_path_that_is_a_file_is_told(
    write: Write, batch_classify: Command, tmp_path: Path
) -> None:
    """The file is left as it is."""
    output = tmp_path / "scored"
    output.write_text("mine", encoding="utf-8")
    result = batch_classify(write({"text": TEXTS}), output=output)

    assert result.exit_code == 1
    assert f"{output}: is a file, not a folder" in result.stderr
    assert output.read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize("output", ["corpus.parquet/below", "n" * 300, "/proc/scored"])
def test_an_output_folder_that_cannot_be_made_is_told(
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
    assert f"{tmp_path / 'mine'}: holds files that are not of a narrascan run" in result.stderr
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
    assert f"{output}: holds another run; what differs:\n  {difference}" in refused.stderr
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


def test_a_damaged_record_of_the_run_is_told(
    write: Write, batch_classify: Command, score: Score, tmp_path: Path
) -> None:
    """Without it nobody knows whose parts these are; --overwrite starts anew."""
    corpus, output = write({"text": TEXTS}), tmp_path / "scored"
    score(corpus, output=output)
    key = output / ".narrascan" / "key.json"
    key.write_text("{", encoding="utf-8")
    result = batch_classify(corpus, output=output)

    assert result.exit_code == 1
    assert f"{key}: is damaged" in result.stderr
    assert score(corpus, output=output, overwrite=True).num_rows == 3


def test_an_overwrite_that_was_killed_leaves_no_old_part_in_use(
    write: Write, score: Score, tmp_path: Path, contents: Contents
) -> None:
    """Parts without the record of their run are scored again, whatever their markers say."""
    corpus = write({"text": TEXTS})
    score(corpus, output=tmp_path / "scored")
    (tmp_path / "scored" / ".narrascan" / "key.json").unlink()  # --overwrite removes it first
    score(corpus, output=tmp_path / "scored", chunk_rows=1)
    score(corpus, output=tmp_path / "fresh", chunk_rows=1)

    assert contents(tmp_path / "scored") == contents(tmp_path / "fresh")


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
