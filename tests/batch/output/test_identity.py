"""Identity of a run: whatever shapes its output makes another run, or another cache entry."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from click.testing import Result

from batch.output.identity import differences
from batch.output.marker import Marker

Write = Callable[..., Path]
Score = Callable[..., pa.Table]
Words = Callable[..., list[str]]
Command = Callable[..., Result]
Contents = Callable[[Path], dict[str, bytes]]

TEXTS = ["Aid is wasted by officials.", "Sanctions hurt us.", "Talks now, or war for ever."]


@pytest.fixture
def stopped(write: Write, score: Score, tmp_path: Path) -> tuple[Path, Path, Path]:
    """Monday, Tuesday, and the folder of a run over both that lacks its last chunk."""
    monday = write({"text": TEXTS, "day": ["mon"] * 3}, "mon.parquet")
    tuesday = write({"text": TEXTS[::-1], "day": ["tue"] * 3}, "tue.parquet")
    output = tmp_path / "scored"
    score(monday, tuesday, output=output)
    for name in (".narrascan/done/00001.json", "run.json"):
        (output / name).unlink()
    return monday, tuesday, output


def test_inputs_in_another_order_are_another_run(
    stopped: tuple[Path, Path, Path], batch_classify: Command, contents: Contents
) -> None:
    """Or the parts of one day would be there twice and those of the other not at all."""
    monday, tuesday, output = stopped
    before = contents(output)
    refused = batch_classify(tuesday, monday, output=output)

    assert refused.exit_code == 1
    assert "inputs: the order was" in refused.stderr
    assert contents(output) == before
    assert batch_classify(monday, tuesday, output=output).exit_code == 0


def test_a_run_is_not_resumed_on_another_processor(
    stopped: tuple[Path, Path, Path], words: Words, contents: Contents
) -> None:
    """Engines choose their arithmetic by it, so one folder would hold two kinds of bits."""
    monday, tuesday, output = stopped
    before = contents(output)
    other = subprocess.run(
        ["env", "ONEDNN_MAX_CPU_ISA=AVX2", *words(monday, tuesday, output=output)],
        capture_output=True,
        text=True,
        check=False,
    )

    assert other.returncode == 1, other.stderr
    assert "engine.processor: was" in other.stderr
    assert contents(output) == before


def test_a_cache_of_another_processor_is_not_used(
    write: Write, score: Score, words: Words, tmp_path: Path
) -> None:
    """The same identity names the entries of a cache."""
    corpus, cache = write({"text": TEXTS}), tmp_path / "cache"
    score(corpus, cache=cache)
    command = words(corpus, cache=cache, output=tmp_path / "other")
    other = subprocess.run(
        ["env", "ONEDNN_MAX_CPU_ISA=AVX2", *command], capture_output=True, text=True, check=True
    )
    same = subprocess.run(
        words(corpus, cache=cache, output=tmp_path / "same"),
        capture_output=True,
        text=True,
        check=True,
    )

    assert "cache: 0 of 3 texts" in other.stderr
    assert "cache: 3 of 3 texts" in same.stderr


CHANGES = {
    "run_sha256": "0" * 64,
    "source_file": "other.parquet",
    "source_fingerprint": "sha256:0",
    "first_row": 1,
    "rows": 2,
}


@pytest.mark.parametrize("field", CHANGES)
def test_a_marker_counts_only_for_its_own_rows(
    stopped: tuple[Path, Path, Path],
    score: Score,
    tmp_path: Path,
    contents: Contents,
    field: str,
) -> None:
    """Run, file, content and range are compared with the chunk, whatever the marker's own hash."""
    monday, tuesday, output = stopped
    path = output / ".narrascan" / "done" / "00000.json"
    marker = Marker.model_validate_json(path.read_bytes())
    chunk = marker.chunk.model_copy(update={field: CHANGES[field]})
    path.write_text(marker.model_copy(update={"chunk": chunk}).sealed().model_dump_json())
    score(monday, tuesday, output=output)
    score(monday, tuesday, output=tmp_path / "fresh")

    assert contents(output) == contents(tmp_path / "fresh")


def test_a_marker_names_what_it_stands_for(stopped: tuple[Path, Path, Path]) -> None:
    """The file, the range and the content, readable by people."""
    monday, _, output = stopped
    path = output / ".narrascan" / "done" / "00000.json"
    chunk = Marker.model_validate_json(path.read_bytes()).chunk

    assert (chunk.source_file, chunk.first_row, chunk.rows) == (str(monday), 0, 3)
    assert chunk.source_fingerprint.startswith("sha256:")
    assert len(chunk.run_sha256) == 64


def test_differences_name_values_and_order() -> None:
    """Values by their path; what is only in another order is a difference too."""
    recorded = {"options": {"keep": True, "size": 1}, "inputs": {"a": 1, "b": 2}}
    current = {"options": {"keep": False, "size": 1}, "inputs": {"b": 2, "a": 1}}

    assert list(differences(recorded, current)) == [
        "options.keep: was True, is False",
        "inputs: the order was ['a', 'b'], is ['b', 'a']",
    ]
