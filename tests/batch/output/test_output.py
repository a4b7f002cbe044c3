"""What the output folder of a finished run contains."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import Result
from tokenizers import Tokenizer

from schemas.bundle.metadata import ArtefactMetadata
from schemas.kinds.columns import reserved_columns
from tests.label_tasks import KIND, decision_of

Write = Callable[..., Path]
Score = Callable[..., pa.Table]
Command = Callable[..., Result]
Contents = Callable[[Path], dict[str, bytes]]

RESERVED = reserved_columns({"narrative": KIND})
TEXTS = ["Aid is wasted by officials.", "Sanctions hurt us.", "Talks now, or war for ever."]


def test_predictions_hold_the_input_columns_and_then_what_was_found(
    sample: pa.Table, write: Write, score: Score, metadata: ArtefactMetadata
) -> None:
    """Every input column but the text comes first, unchanged in name, type and value."""
    scored = score(write(sample))
    kept = sample.drop_columns(["text"])

    assert scored.column_names == [*kept.column_names, *RESERVED]
    assert scored.select(kept.column_names).equals(kept)
    assert scored.schema.field("labels").type == pa.list_(pa.string())
    assert scored.schema.field("probabilities").type == pa.map_(pa.string(), pa.float32())
    assert [label for label, _ in scored.column("probabilities")[0].as_py()] == list(
        metadata.labels
    )
    assert [scored.schema.field(name).type for name in RESERVED[2:]] == [
        pa.int32(),
        pa.string(),
        pa.string(),
        pa.string(),
        pa.string(),
        pa.int64(),
    ]


def test_rows_stand_in_input_order_over_all_parts(
    sample: pa.Table, write: Write, score: Score, tmp_path: Path
) -> None:
    """Parts, read by name, give the corpus in its order, each row with its address."""
    corpus = write(sample, row_group_size=11)
    scored = score(corpus, chunk_rows=7, output=tmp_path / "scored")

    assert scored.column("article_id").equals(sample.column("article_id"))
    assert scored.column("source_row").to_pylist() == list(range(len(sample)))
    assert set(scored.column("source_file").to_pylist()) == {str(corpus)}
    assert len(list((tmp_path / "scored" / "predictions").iterdir())) == 7


def test_labels_are_those_that_reach_the_thresholds_of_the_onnx_file(
    sample: pa.Table, write: Write, score: Score, metadata: ArtefactMetadata
) -> None:
    """A reader can get `labels` from `probabilities` and the thresholds, in label order."""
    scored = score(write(sample))
    thresholds = decision_of(metadata).threshold_array
    reached = [
        [
            label
            for label, threshold in zip(metadata.labels, thresholds, strict=True)
            if np.float32(row[label]) >= threshold
        ]
        for row in map(dict, scored.column("probabilities").to_pylist())
    ]

    assert scored.column("labels").to_pylist() == reached
    assert any(reached)


def test_status_and_tokens_say_how_much_was_read(
    write: Write, score: Score, tokenizer: Tokenizer
) -> None:
    """A long text is `truncated` at max_tokens, a short one `ok` with the tokens it has."""
    scored = score(write({"text": ["aid", "aid " * 500]}))

    assert scored.column("status").to_pylist() == ["ok", "truncated"]
    assert scored.column("tokens").to_pylist() == [len(tokenizer.encode("aid").ids), 128]


def test_keep_text_keeps_the_text_in_its_place(
    sample: pa.Table, write: Write, score: Score
) -> None:
    """With --keep-text the predictions begin with all columns of the corpus."""
    scored = score(write(sample), keep_text=True)

    assert scored.select(sample.column_names).equals(sample)
    assert scored.column_names == [*sample.column_names, *RESERVED]


def test_gold_called_labels_becomes_gold_labels(
    sample: pa.Table, write: Write, score: Score
) -> None:
    """A gold column `labels` makes room for the predicted ones and keeps its values."""
    corpus = write({"labels": sample.column("narratives"), "text": sample.column("text")})
    scored = score(corpus, gold_column="labels")

    assert scored.column_names == ["gold_labels", *RESERVED]
    assert scored.column("gold_labels").equals(sample.column("narratives"))


def test_run_json_says_what_came_out(
    sample: pa.Table, write: Write, tmp_path: Path, batch_classify: Command
) -> None:
    """Every data file is listed with its sha256 and size, and the counts add up."""
    texts = [*sample.column("text").to_pylist()[:-2], "", None]
    texts[3] = b"\xff"
    corpus = write({"text": pa.array([t.encode() if isinstance(t, str) else t for t in texts])})
    output = tmp_path / "scored"
    result = batch_classify(corpus, output=output, chunk_rows=20, max_quarantined=1)
    record = json.loads((output / "run.json").read_text(encoding="utf-8"))
    parts = [p for folder in ("predictions", "quarantine") for p in (output / folder).iterdir()]
    counts = record["counts"]

    assert result.exit_code == 0
    assert record["outputs"] == {
        path.relative_to(output).as_posix(): {
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "bytes": path.stat().st_size,
        }
        for path in sorted(parts)
    }
    assert [counts[name] for name in ("rows", "empty", "quarantined")] == [48, 2, 1]
    assert counts["ok"] + counts["truncated"] == 45
    assert record["inputs"][str(corpus)]["rows"] == 48
    assert record["device"]["name"] == "cpu"


def test_run_json_says_what_went_in(
    sample: pa.Table, write: Write, score: Score, tmp_path: Path, bundle: Path
) -> None:
    """Bundle and inputs are named with hashes that anyone can compute."""
    corpus = write(sample)
    score(corpus, output=tmp_path / "scored")
    record = json.loads((tmp_path / "scored" / "run.json").read_text(encoding="utf-8"))

    manifest = hashlib.sha256((bundle / "bundle.json").read_bytes()).hexdigest()
    assert record["bundle"] == {"path": str(bundle), "sha256": manifest}
    assert record["inputs"][str(corpus)]["fingerprint"] == (
        "sha256:" + hashlib.sha256(corpus.read_bytes()).hexdigest()
    )
    assert {"openvino", "narrascan", "pyarrow"} <= set(record["versions"])


def test_two_runs_in_two_folders_differ_in_timings_only(
    sample: pa.Table, write: Write, score: Score, tmp_path: Path, contents: Contents
) -> None:
    """The same command elsewhere gives the same files to the byte, hidden ones too."""
    corpus = write(sample)
    for name in ("one", "two"):
        score(corpus, chunk_rows=20, gold_column="narratives", output=tmp_path / name)

    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_a_second_run_of_the_same_command_changes_no_byte(
    sample: pa.Table, write: Write, batch_classify: Command, tmp_path: Path
) -> None:
    """A finished folder is left as it is, `timings` too, and the command succeeds."""
    corpus, output = write(sample), tmp_path / "scored"
    batch_classify(corpus, output=output)
    before = {path: path.read_bytes() for path in output.rglob("*") if path.is_file()}
    again = batch_classify(corpus, output=output)

    assert again.exit_code == 0
    assert "already complete" in again.stderr
    assert {path: path.read_bytes() for path in output.rglob("*") if path.is_file()} == before


def test_a_deleted_report_is_written_again(
    sample: pa.Table, write: Write, score: Score, tmp_path: Path, contents: Contents
) -> None:
    """The same command brings back a report that somebody removed."""
    corpus, output = write(sample), tmp_path / "scored"
    score(corpus, output=output)
    whole = contents(output)
    (output / "report.html").unlink()
    score(corpus, output=output)

    assert contents(output) == whole


PASSED_THROUGH: dict[str, Any] = {
    "microseconds": pa.array([1, 2, None], pa.timestamp("us", tz="UTC")),
    "duration": pa.array([1, 2, 3], pa.duration("ms")),
    "decimal": pa.array([Decimal("1.10"), None, Decimal("-3.30")]),
    "struct": pa.array([{"a": 1, "b": {"c": ["x"]}}, None, {"a": 3, "b": None}]),
    "map": pa.array([[("k", 1)], [], None], pa.map_(pa.string(), pa.int64())),
    "vector": pa.array([[1.0, 2.0]] * 3, pa.list_(pa.float32(), 2)),
    "unsigned": pa.array([2**64 - 1, 0, None], pa.uint64()),
    "bytes": pa.array([b"\xff", None, b"longer than twelve bytes"], pa.binary()),
    "with.dot": pa.array([1, 2, 3]),
    "скриня 🦊": pa.array(["é", "ß", "中"]),
    "": pa.array([1, 2, 3]),
}


@pytest.mark.parametrize("gap", [False, True], ids=["all kept", "one quarantined"])
def test_columns_of_every_type_pass_through(write: Write, score: Score, gap: bool) -> None:
    """Types that every reader has reach the predictions as they are, nested ones too."""
    texts = [text.encode() for text in TEXTS]
    texts[1] = b"\xff" if gap else texts[1]
    corpus = write({**PASSED_THROUGH, "text": pa.array(texts)})
    scored = score(corpus, max_quarantined=1)
    kept = pq.read_table(corpus).select(list(PASSED_THROUGH))
    expected = pa.concat_tables([kept.slice(0, 1), kept.slice(2, 1)]) if gap else kept

    assert scored.select(list(PASSED_THROUGH)).equals(expected)


def test_labels_of_any_alphabet_come_through(
    edit_bundle: Callable[..., Path],
    metadata: ArtefactMetadata,
    write: Write,
    score: Score,
    tmp_path: Path,
) -> None:
    """Labels with dots, quotes, emoji or names of other columns work, and polars reads them."""
    odd = ["Україна: мир", "a.b", "quote'\"", "🦊", "line\nbreak", "status", "中文", "<b>"]
    labels = [*odd, *metadata.labels[len(odd) :]]
    edited, output = edit_bundle(props={"labels": labels}), tmp_path / "scored"
    corpus = write({"text": TEXTS})
    scored = score(corpus, bundle=edited, output=tmp_path / "map")
    score(corpus, bundle=edited, output=output, probabilities="struct")
    frame = pl.read_parquet(output / "predictions" / "*.parquet")

    assert [label for label, _ in scored.column("probabilities")[0].as_py()] == labels
    assert frame["probabilities"].struct.fields == labels
