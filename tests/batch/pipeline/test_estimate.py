"""What `--dry-run` promises: numbers that a run of the same command bears out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import Result

from batch.pipeline.estimate import PLACES, ROWS_A_PLACE, Estimate

Write = Callable[..., Path]
Command = Callable[..., Result]
Look = Callable[..., dict[str, Any]]


@pytest.fixture
def look(batch_classify: Command, tmp_path: Path) -> Look:
    """Runs --dry-run with --log-format json and returns what it prints."""

    def look(*corpus: Path, **options: Any) -> dict[str, Any]:
        result = batch_classify(
            *corpus, dry_run=True, log_format="json", output=tmp_path / "scored", **options
        )
        assert result.exit_code == 0, result.output
        found: dict[str, Any] = json.loads(result.stdout)
        return found

    return look


def test_tokens_of_a_small_corpus_are_counted(
    sample: pa.Table, write: Write, look: Look, score: Callable[..., pa.Table]
) -> None:
    """Where every row is looked at, the number is exact."""
    corpus = write(sample)
    found = look(corpus)
    scored = score(corpus)

    assert found["sampled_rows"] == found["rows"] == sample.num_rows
    assert found["tokens"] == sum(scored.column("tokens").to_pylist())
    assert found["truncated"] == pytest.approx(
        scored.column("status").to_pylist().count("truncated") / sample.num_rows
    )


def test_tokens_of_a_large_corpus_are_sampled_from_all_over_it(
    write: Write, look: Look, score: Callable[..., pa.Table]
) -> None:
    """Texts that grow longer from file to file are all seen; the error is as large as it says."""
    words = [["war", "and", "peace"][row % 3] for row in range(60)]
    texts = [" ".join(words[: 1 + row // 100]) for row in range(3000)]
    files = [
        write({"text": texts[first : first + 1000]}, f"part-{first}.parquet", row_group_size=300)
        for first in (0, 1000, 2000)
    ]
    found = look(*files)
    exact = sum(score(*files).column("tokens").to_pylist())

    assert found["files"] == 3
    assert PLACES * ROWS_A_PLACE * 0.9 <= found["sampled_rows"] <= PLACES * ROWS_A_PLACE
    assert found["tokens"] == pytest.approx(exact, rel=0.1)
    assert 0 < found["tokens_error"] < 0.3


def test_time_and_memory_are_reported(sample: pa.Table, write: Write, look: Look) -> None:
    """All of them positive, and in proportion to each other."""
    found = look(write(sample))

    assert found["seconds"] > 0
    assert found["tokens_per_s"] == pytest.approx(found["tokens"] / found["seconds"])
    assert found["peak_memory_bytes"] > 10**7
    assert found["free_memory_bytes"] is None or found["free_memory_bytes"] > 0


def test_more_rows_of_a_kind_take_longer_in_proportion(
    sample: pa.Table, write: Write, look: Look
) -> None:
    """Fifty times the corpus is about fifty times the tokens."""
    small = look(write(sample))
    large = look(write(pa.concat_tables([sample] * 50), "large.parquet"))

    assert large["rows"] == 50 * small["rows"]
    assert large["tokens"] == pytest.approx(50 * small["tokens"], rel=0.2)


def test_rows_that_cannot_be_scored_count_for_nothing(write: Write, look: Look) -> None:
    """Blank rows and bad bytes have no tokens."""
    raw = pa.array([b"One article.", b"\xff\xfe", b"  ", None], pa.binary())
    found = look(write({"text": raw.view(pa.string())}))

    assert (found["rows"], found["sampled_rows"], found["scorable"]) == (4, 4, 0.25)


@pytest.mark.parametrize("texts", [[], [None, " "]], ids=["no rows", "no text"])
def test_nothing_to_score_takes_no_time(write: Write, look: Look, texts: list[Any]) -> None:
    """An empty corpus has an estimate too."""
    found = look(write({"text": pa.array(texts, pa.string())}))

    assert (found["tokens"], found["tokens_error"], found["tokens_per_s"]) == (0, 0.0, 0.0)
    assert found["seconds"] < 1


def test_people_get_lines(
    sample: pa.Table, write: Write, batch_classify: Command, tmp_path: Path
) -> None:
    """Rows, tokens, time and memory, each on a line of its own."""
    result = batch_classify(write(sample), dry_run=True, output=tmp_path / "scored")
    lines = dict(line.split(":", 1) for line in result.stdout.splitlines())

    assert result.exit_code == 0
    assert [*lines] == [
        "task", "bundle", "device", "corpus", "columns", "sample", "tokens", "time", "memory",
    ]  # fmt: skip
    assert "1 files, 48 rows in 1 chunks" in lines["corpus"]
    assert "tokens/s" in lines["time"]


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(3.2, "3 s"), (59.2, "59 s"), (600, "10 min"), (3600 * 5 + 1260, "5 h 21 min")],
)
def test_time_is_reported_as_people_do(seconds: float, said: str) -> None:
    """From seconds to hours."""
    expected = Estimate(
        task="topics", answer="3 labels", precision="fp32", bundle_sha256="0", device="cpu",
        device_why="",
        files=1, rows=1, chunks=1, kept_columns=(), sampled_rows=1, scorable=1.0, truncated=0.0,
        tokens=1, tokens_error=0.0, tokens_per_s=1.0, seconds=seconds, peak_memory_bytes=1,
        free_memory_bytes=None,
    )  # fmt: skip

    assert any(f"about {said} at" in line for line in expected.lines())


def test_nothing_is_written(sample: pa.Table, write: Write, look: Look, tmp_path: Path) -> None:
    """Neither an output folder nor anything beside it."""
    corpus = write(sample)
    before = pq.read_table(corpus)
    look(corpus)

    assert [path.name for path in tmp_path.iterdir()] == [corpus.name]
    assert pq.read_table(corpus).equals(before)
