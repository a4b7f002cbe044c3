"""Inputs of a corpus: files, folders, globs, partitions, URLs, text of every Arrow type."""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import Result

Write = Callable[..., Path]
Score = Callable[..., pa.Table]
Command = Callable[..., Result]

TEXTS = ["Aid is wasted by officials.", "Sanctions hurt us.", "Talks now, or war for ever."]
FOUND = ["labels", "probabilities", "tokens", "status"]


@pytest.fixture
def lake(write: Write, tmp_path: Path) -> Path:
    """Two files in hive partitions, beside files that are not data."""
    write({"text": TEXTS, "n": [0, 1, 2]}, "lake/dt=2026-01/a.parquet")
    write({"text": TEXTS, "n": [3, 4, 5]}, "lake/dt=2026-02/b.parquet")
    for name in ("_SUCCESS", ".hidden.parquet", "_tmp.parquet", "notes.txt"):
        (tmp_path / "lake" / name).write_text("not data", encoding="utf-8")
    (tmp_path / "lake" / "_staging").mkdir()
    (tmp_path / "lake" / "_staging" / "half.parquet").write_text("not data", encoding="utf-8")
    return tmp_path / "lake"


ENTRIES = """{} {}/ {}/dt=* {}/dt=2026-*/ {}/dt=*/*.parquet {}/dt=2026-0[12]/?.parquet
file://{} file://{}/dt=*/*.parquet"""


@pytest.mark.parametrize("entry", ENTRIES.split())
def test_folders_and_globs_give_the_data_files_by_name(
    lake: Path, score: Score, entry: str
) -> None:
    """A folder, a glob of files or of folders, and their URLs give the same rows."""
    scored = score(entry.format(lake))

    assert scored.column("n").to_pylist() == [0, 1, 2, 3, 4, 5]
    assert scored.column("source_row").to_pylist() == [0, 1, 2, 0, 1, 2]


def test_hive_partitions_become_columns(lake: Path, score: Score) -> None:
    """`dt=2026-01` in the path gives a string column `dt`."""
    scored = score(lake)

    assert scored.column_names[:2] == ["n", "dt"]
    assert scored.column("dt").to_pylist() == ["2026-01"] * 3 + ["2026-02"] * 3


def test_a_partition_can_be_the_domain(write: Write, score: Score, tmp_path: Path) -> None:
    """The report is broken down by a hive key, with escapes decoded and Hive's null as none."""
    for key in ("UA", "a%20b", "__HIVE_DEFAULT_PARTITION__"):
        write({"text": TEXTS}, f"lake/domain={key}/a.parquet")
    scored = score(tmp_path / "lake", output=tmp_path / "scored")
    report = json.loads((tmp_path / "scored" / "report.json").read_text(encoding="utf-8"))

    assert scored.column("domain").to_pylist() == ["UA"] * 3 + [None] * 3 + ["a b"] * 3
    assert {"UA", "a b"} <= set(report["domains"])


@pytest.mark.parametrize(
    ("column", "domains"),
    [
        ([1, 2, None], {"1", "2", "(none)"}),
        ([datetime.date(2026, 1, 31)] * 3, {"2026-01-31"}),
        (pa.array([7000] * 3, pa.timestamp("ns")), {"1970-01-01 00:00:00.000007000"}),
        (pa.array([0] * 3, pa.timestamp("s", "Nowhere/Land")), {"1970-01-01 00:00:00.000Z"}),
        (pa.array([1, 2, None], pa.duration("ns")), {"1", "2", "(none)"}),
        ([[1], [2], None], {"[1]", "[2]", "(none)"}),
        (pa.array(["UA", "CC", "UA"]).dictionary_encode(), {"UA", "CC"}),
        (pa.nulls(3), {"(none)"}),
    ],
    ids=["numbers", "dates", "nanoseconds", "zone", "durations", "lists", "category", "nulls"],
)
def test_a_domain_may_be_of_any_type(
    write: Write, score: Score, tmp_path: Path, column: Any, domains: set[str]
) -> None:
    """The report is broken down by the column whatever its type."""
    score(write({"text": TEXTS, "domain": column}), output=tmp_path / "scored")
    report = json.loads((tmp_path / "scored" / "report.json").read_text(encoding="utf-8"))

    assert {*report["domains"]} == domains
    assert sum(found["rows"] for found in report["domains"].values()) == 3


def test_a_repeated_partition_key_with_one_value_gives_one_column(
    write: Write, score: Score, tmp_path: Path
) -> None:
    """No column name is written twice; two values of one key are refused."""
    write({"text": TEXTS}, "lake/k=1/m/k=1/a.parquet")
    scored = score(tmp_path / "lake")

    assert scored.column_names.count("k") == 1
    assert scored.column("k").to_pylist() == ["1"] * 3


def test_a_file_named_twice_counts_once(lake: Path, score: Score) -> None:
    """File, folder and URL of the same file do not score it again."""
    first = lake / "dt=2026-01" / "a.parquet"
    scored = score(first, f"file://{first}", lake, str(lake) + "/*/a.parquet")

    assert scored.column("n").to_pylist() == [0, 1, 2, 3, 4, 5]
    assert set(scored.column("source_file").to_pylist()) == {
        str(first),
        str(lake / "dt=2026-02" / "b.parquet"),
    }


def test_files_keep_the_order_in_which_they_are_named(lake: Path, score: Score) -> None:
    """The command line decides the order of the predictions."""
    scored = score(lake / "dt=2026-02" / "b.parquet", lake / "dt=2026-01" / "a.parquet")

    assert scored.column("n").to_pylist() == [3, 4, 5, 0, 1, 2]


def test_a_relative_path_is_named_as_given(
    lake: Path, score: Score, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`source_file` and `run.json` do not contain the absolute path of a relative corpus."""
    monkeypatch.chdir(lake.parent)
    scored = score("lake/dt=2026-01/a.parquet")

    assert set(scored.column("source_file").to_pylist()) == {"lake/dt=2026-01/a.parquet"}


def test_an_object_store_gives_the_same_predictions(
    write: Write, score: Score, batch_classify: Command, tmp_path: Path
) -> None:
    """A corpus behind an fsspec URL is scored like a local one, and can be resumed."""
    local = write({"text": TEXTS, "n": [0, 1, 2]})
    store = fsspec.filesystem("memory")
    store.pipe("/corpus/a.parquet", local.read_bytes())
    try:
        scored = score("memory://corpus", output=tmp_path / "remote", chunk_rows=2)
        again = batch_classify("memory://corpus", output=tmp_path / "remote", chunk_rows=2)
    finally:
        store.rm("/corpus", recursive=True)

    assert scored.select(FOUND).equals(score(local).select(FOUND))
    assert set(scored.column("source_file").to_pylist()) == {"memory:///corpus/a.parquet"}
    assert again.exit_code == 0
    assert "already complete" in again.stderr


TEXT_TYPES = [
    pa.large_string(),
    pa.string_view(),
    pa.binary(),
    pa.large_binary(),
    pa.binary_view(),
    pa.dictionary(pa.int32(), pa.string()),
    pa.dictionary(pa.int32(), pa.binary()),
]


@pytest.mark.parametrize("kind", TEXT_TYPES, ids=str)
@pytest.mark.parametrize("keep_text", [False, True], ids=["dropped", "kept"])
def test_every_text_type_gives_the_same_scores(
    write: Write, score: Score, kind: pa.DataType, keep_text: bool
) -> None:
    """The Arrow type of the text does not matter, null and empty rows included."""
    texts = [*TEXTS, None, "", "Зерно і мир 🌾", TEXTS[0]]
    encoded = [None if text is None else text.encode() for text in texts]
    values = encoded if "binary" in str(kind) else texts
    if pa.types.is_dictionary(kind):
        column = pa.array(values, kind.value_type).dictionary_encode()
    else:
        column = pa.array(values, kind)
    options = {"keep_text": True} if keep_text else {}
    expected = score(write({"n": range(7), "text": texts}, "plain.parquet"))

    scored = score(write({"n": range(7), "text": column}, "typed.parquet"), **options)

    assert scored.select(FOUND).equals(expected.select(FOUND))


def test_files_with_different_columns_are_unified_with_nulls(
    write: Write, score: Score, tmp_path: Path
) -> None:
    """A column that a file lacks is null there, with the type it has elsewhere, nested or not."""
    write({"text": TEXTS, "a": [1, 2, 3], "s": [{"x": 1}] * 3, "d": TEXTS}, "many/1.parquet")
    write({"text": TEXTS, "b": [[1.5]] * 3, "a": pa.array([1.5] * 3)}, "many/2.parquet")
    write({"text": pa.array(TEXTS, pa.large_string()), "s": [{"y": "z"}] * 3}, "many/3.parquet")
    scored = score(tmp_path / "many", chunk_rows=2)

    assert scored.column_names[:4] == ["a", "s", "d", "b"]
    assert scored.column("a").to_pylist() == [1.0, 2.0, 3.0, 1.5, 1.5, 1.5, None, None, None]
    assert scored.column("b").to_pylist() == [None] * 3 + [[1.5]] * 3 + [None] * 3
    assert scored.column("s").to_pylist() == [
        *[{"x": 1, "y": None}] * 3,
        *[None] * 3,
        *[{"x": None, "y": "z"}] * 3,
    ]


def test_every_part_of_a_run_has_the_same_schema(
    write: Write, score: Score, tmp_path: Path
) -> None:
    """Readers of `predictions/*.parquet` see one schema, even if the files differ."""
    write({"text": TEXTS, "a": [1, 2, 3]}, "many/1.parquet")
    write({"text": TEXTS, "title": pa.nulls(3)}, "many/2.parquet")
    write({"text": TEXTS, "title": TEXTS}, "many/3.parquet")
    score(tmp_path / "many", output=tmp_path / "scored")
    parts = sorted((tmp_path / "scored" / "predictions").iterdir())

    assert len(parts) == 3
    assert len({str(pq.read_schema(part)) for part in parts}) == 1


def test_a_corpus_of_text_alone_is_scored(write: Write, score: Score) -> None:
    """No other column is needed, even if a row is quarantined."""
    scored = score(write({"text": pa.array([b"aid", b"\xff", b"war"])}), max_quarantined=1)

    assert scored.column_names[0] == "labels"
    assert scored.column("source_row").to_pylist() == [0, 2]


def test_other_column_names_can_be_mapped(sample: pa.Table, write: Write, score: Score) -> None:
    """--text-column and --title-column name the columns; the scores are the same."""
    renamed = sample.rename_columns({"text": "body", "title": "headline"})
    options = {"text_column": "body", "title_column": "headline"}
    scored = score(write(renamed, "renamed.parquet"), **options)

    assert scored.select(FOUND).equals(score(write(sample)).select(FOUND))


def test_output_inside_the_corpus_folder_is_not_scored(
    lake: Path, batch_classify: Command, read_parts: Callable[[Path], pa.Table]
) -> None:
    """Predictions below the corpus folder are not input when the command is run again."""
    first = batch_classify(lake, output=lake / "scored")
    again = batch_classify(lake, output=lake / "scored")

    assert (first.exit_code, again.exit_code) == (0, 0)
    assert "already complete" in again.stderr
    assert len(read_parts(lake / "scored" / "predictions")) == 6


def test_a_file_name_of_255_bytes_is_scored(write: Write, score: Score) -> None:
    """A file system allows no longer name."""
    corpus = write({"text": TEXTS}, "n" * 247 + ".parquet")

    assert set(score(corpus).column("source_file").to_pylist()) == {str(corpus)}
