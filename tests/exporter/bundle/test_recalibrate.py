"""What `export-classifier recalibrate` promises: other decisions, the same graph."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from exporter.cli import main
from exporter.decision.fit import choose_decision
from schemas.bundle.folder import Bundle
from schemas.decision.settings import DecisionConfig
from schemas.io.files import FileFacts
from schemas.io.lock import lock_beside
from schemas.tasks.task import label_matrix
from schemas.text.model_text import Article, model_text
from tests.exporting import scorer_of
from tests.label_tasks import decision_of, evidence_of, logits_of
from tests.tiny import sample_rows

REDECIDED = {"narrative.onnx", "reliability-narrative.png", "MODEL_CARD.md", "bundle.json"}


def recalibrate(bundle: Path, data: Path, *words: str | Path) -> Result:
    """Run `export-classifier recalibrate` for the narrative task."""
    command = ["recalibrate", bundle, "--task", "narrative", "--data", data, *words]
    return CliRunner().invoke(main, [str(word) for word in command])


@pytest.fixture(scope="module")
def rows(bundle: Path) -> list[dict[str, Any]]:
    """Articles of the samples with those of their narratives that the model knows."""
    known = set(scorer_of(bundle).metadata.labels)
    return [
        {
            "text": row["text"],
            "title": row["title"],
            "labels": [label for label in row["narratives"] if label in known],
        }
        for row in sample_rows().to_dicts()
    ]


@pytest.fixture(scope="module")
def data(rows: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as a file."""
    path = tmp_path_factory.mktemp("labelled") / "labelled.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


@pytest.fixture(scope="module")
def recalibrated(bundle: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle with the decision of `data`; not to be changed."""
    output = tmp_path_factory.mktemp("recalibrated") / "new"
    result = recalibrate(bundle, data, "--output", output)
    assert result.exit_code == 0, result.output
    return output


def test_the_decision_is_that_of_an_export_on_these_rows(
    bundle: Path, rows: list[dict[str, Any]], recalibrated: Path
) -> None:
    """The same function, on logits of the bundle's own session, with the bundle's own rule."""
    before, after = scorer_of(bundle).metadata, scorer_of(recalibrated).metadata
    runner = scorer_of(bundle).runner
    texts = [
        model_text(Article(row["text"], row["title"]), before.text, max_tokens=before.max_tokens)
        for row in rows
    ]
    gold = label_matrix([row["labels"] for row in rows], before.labels, source="rows")
    config = DecisionConfig(
        calibration=evidence_of(before).calibration, thresholds=evidence_of(before).thresholds
    )
    expected = choose_decision(logits_of(runner, runner.tokenize(texts)), gold, config)

    decision = decision_of(after)
    assert decision.calibration == expected.calibration != decision_of(before).calibration
    assert decision.threshold_array.tolist() == expected.thresholds.tolist()
    assert evidence_of(after) == expected.evidence
    assert after.metrics.validation == expected.validation
    assert after.metrics.cross_validated == expected.cross_validated


def test_all_else_stays(bundle: Path, recalibrated: Path) -> None:
    """The graph, the other task, the tokenizer and the probes, and what was measured of them."""
    before, after = (scorer_of(folder).metadata for folder in (bundle, recalibrated))
    changed = {
        path.name
        for path in bundle.iterdir()
        if path.read_bytes() != (recalibrated / path.name).read_bytes()
    }
    graphs = [onnx.load(folder / "narrative.onnx").graph for folder in (bundle, recalibrated)]

    assert changed == REDECIDED
    assert graphs[0] == graphs[1]
    for name in ("verification", "portability"):
        assert getattr(after.metrics, name) == getattr(before.metrics, name)
    assert (after.training, after.labels, after.text) == (
        before.training,
        before.labels,
        before.text,
    )
    assert CliRunner().invoke(main, ["verify", str(recalibrated)]).exit_code == 0


def test_metadata_and_card_say_on_what(
    bundle: Path, rows: list[dict[str, Any]], recalibrated: Path
) -> None:
    """Hash and number of the rows, and the bundle before; an export says nothing of the kind."""
    facts = scorer_of(recalibrated).metadata.recalibration
    card = (recalibrated / "MODEL_CARD.md").read_text(encoding="utf-8")

    assert scorer_of(bundle).metadata.recalibration is None
    assert facts is not None
    assert (facts.rows, facts.bundle_sha256) == (len(rows), Bundle.open(bundle).sha256)
    assert f"found again on {len(rows)} labelled rows (data {facts.data_sha256[:12]})" in card


def test_a_bundle_can_be_replaced_by_itself(
    bundle: Path, data: Path, recalibrated: Path, tmp_path: Path
) -> None:
    """Without --output; twice gives the same decision, and only the bundle before differs."""
    ours = Path(shutil.copytree(bundle, tmp_path / "ours"))
    results = [recalibrate(ours, data), recalibrate(ours, data)]
    here, there = (decision_of(scorer_of(folder).metadata) for folder in (ours, recalibrated))

    assert [result.exit_code for result in results] == [0, 0]
    assert here.calibration == there.calibration
    assert here.thresholds == there.thresholds
    assert {path.name for path in tmp_path.iterdir()} == {"ours"}


def test_the_signature_does_not_outlive_the_change(
    bundle: Path, data: Path, tmp_path: Path
) -> None:
    """A recalibrated bundle has to be signed again, and the command says so."""
    ours = Path(shutil.copytree(bundle, tmp_path / "ours"))
    key = tmp_path / "ours.key"
    for words in (["keygen", key], ["sign", ours, "--key", key]):
        assert CliRunner().invoke(main, [str(word) for word in words]).exit_code == 0
    result = recalibrate(ours, data)

    assert result.exit_code == 0
    assert "not signed" in result.output
    assert not (ours / "bundle.json.sig").exists()


def test_settings_decide_otherwise(bundle: Path, data: Path, tmp_path: Path) -> None:
    """KEY=VALUE, for the one task."""
    words = ["--set", "calibration=temperature", "--set", "thresholds.strategy=global"]
    recalibrate(bundle, data, "--output", tmp_path / "new", *words)
    after = scorer_of(tmp_path / "new").metadata

    assert decision_of(after).calibration.method == "temperature"
    assert evidence_of(after).calibration == "temperature"
    assert len({*decision_of(after).thresholds}) == 1


def test_rows_without_text_or_labels_have_no_say(
    bundle: Path, rows: list[dict[str, Any]], recalibrated: Path, tmp_path: Path
) -> None:
    """Blank texts and null labels are left out; an empty list of labels is an answer."""
    mute = [{"text": " ", "title": "t", "labels": []}, {**rows[0], "labels": None}]
    pq.write_table(pa.Table.from_pylist(mute + rows), tmp_path / "more.parquet")
    recalibrate(bundle, tmp_path / "more.parquet", "--output", tmp_path / "more")
    plain, more = (scorer_of(folder).metadata for folder in (recalibrated, tmp_path / "more"))

    assert decision_of(plain).thresholds == decision_of(more).thresholds
    assert decision_of(plain).calibration == decision_of(more).calibration
    assert more.recalibration is not None
    assert more.recalibration.rows == len(rows)


def test_columns_can_be_named(
    bundle: Path, rows: list[dict[str, Any]], recalibrated: Path, tmp_path: Path
) -> None:
    """Body, title and labels under names of their own."""
    renamed = [{"b": row["text"], "t": row["title"], "gold": row["labels"]} for row in rows]
    pq.write_table(pa.Table.from_pylist(renamed), tmp_path / "renamed.parquet")
    words = ["--text-column", "b", "--title-column", "t", "--labels-column", "gold"]
    recalibrate(bundle, tmp_path / "renamed.parquet", "--output", tmp_path / "new", *words)

    plain, named = (scorer_of(folder).metadata for folder in (recalibrated, tmp_path / "new"))
    assert decision_of(named).thresholds == decision_of(plain).thresholds


@pytest.mark.parametrize(
    ("columns", "words", "exit_code", "message"),
    [
        ({"text": ["a"], "labels": [["Othr"]]}, [], 1, "did you mean 'Other'?"),
        ({"text": ["a"], "gold": [["Other"]]}, [], 1, "no column 'labels'"),
        ({"body": ["a"], "labels": [["Other"]]}, [], 1, "no column 'text'"),
        ({"text": [""], "labels": [["Other"]]}, [], 1, "no row has text and labels"),
        ({"text": ["a"], "labels": [["Other"]]}, ["--set", "calibration=beta"], 2, "calibration: "),
        (
            {"text": ["a"], "labels": [["Other"]]},
            ["--set", "color=red"],
            2,
            "unknown key 'color'",
        ),
        ({"text": ["a"], "labels": [["Other"]]}, ["--set", "calibration"], 2, "expected KEY=VALUE"),
        ({"text": ["a"], "labels": [["Other"]]}, ["--task", "none"], 2, "unknown task 'none'"),
    ],
    ids=["label", "labels", "text", "blank", "value", "key", "no value", "task"],
)
def test_what_cannot_be_leaves_the_bundle_as_it_was(
    bundle: Path,
    tmp_path: Path,
    columns: dict[str, Any],
    words: list[str],
    exit_code: int,
    message: str,
) -> None:
    """One clear message, and nothing is written."""
    ours = Path(shutil.copytree(bundle, tmp_path / "ours"))
    before = {path.name: path.read_bytes() for path in ours.iterdir()}
    pq.write_table(pa.table(columns), tmp_path / "data.parquet")
    result = recalibrate(ours, tmp_path / "data.parquet", *words)

    assert result.exit_code == exit_code, result.output
    assert message in result.output
    assert "Traceback" not in result.output
    assert {path.name: path.read_bytes() for path in ours.iterdir()} == before
    assert {path.name for path in tmp_path.iterdir()} == {"ours", "data.parquet"}


def test_a_changed_bundle_is_refused(bundle: Path, data: Path, tmp_path: Path) -> None:
    """Its files are checked before anything is built on them, those of the other task too."""
    ours = Path(shutil.copytree(bundle, tmp_path / "ours"))
    (ours / "entity_framing.onnx").write_bytes(b"")
    result = recalibrate(ours, data, "--output", tmp_path / "new")

    assert result.exit_code == 1
    assert "entity_framing.onnx: changed since the bundle was written" in result.output
    assert not (tmp_path / "new").exists()


def test_the_manifest_fits_the_new_files(bundle: Path, recalibrated: Path) -> None:
    """Every hash is of the file that is there."""
    manifest = json.loads((recalibrated / "bundle.json").read_text())

    assert set(manifest["files"]) == set(Bundle.open(bundle).manifest.files)
    for name, facts in manifest["files"].items():
        assert FileFacts.of(recalibrated / name).model_dump() == facts
    assert np.isfinite(decision_of(scorer_of(recalibrated).metadata).thresholds).all()


def test_rows_with_null_labels_are_left_out(
    bundle: Path, rows: list[dict[str, Any]], recalibrated: Path, tmp_path: Path
) -> None:
    """Null means not labelled: the decision is that of the other rows."""
    unlabelled = tmp_path / "unlabelled.parquet"
    extra = [{**row, "labels": None} for row in rows[:9]]
    pq.write_table(pa.Table.from_pylist([*rows, *extra]), unlabelled)
    result = recalibrate(bundle, unlabelled, "--output", tmp_path / "with")
    assert result.exit_code == 0, result.output
    without, among = (scorer_of(folder).metadata for folder in (recalibrated, tmp_path / "with"))

    assert decision_of(without).thresholds == decision_of(among).thresholds
    assert without.recalibration is not None
    assert among.recalibration is not None
    assert without.recalibration.rows == among.recalibration.rows


@pytest.mark.parametrize("words", [(), ("--ignore-unknown-labels",)])
def test_label_that_looks_like_a_known_one_is_refused(
    bundle: Path, rows: list[dict[str, Any]], tmp_path: Path, words: tuple[str, ...]
) -> None:
    """By code points, also where unknown labels are ignored."""
    path = tmp_path / "labelled.parquet"
    label = next(label for row in rows for label in row["labels"])
    changed = [*rows[:3], {**rows[3], "labels": [f"{label}\u00a0"]}, *rows[4:]]
    pq.write_table(pa.Table.from_pylist(changed), path)
    result = recalibrate(bundle, path, "--output", tmp_path / "new", *words)

    assert result.exit_code == 1
    assert "row 3" in result.output
    assert "U+00A0 against nothing" in result.output
    assert not (tmp_path / "new").exists()


def test_recalibration_takes_a_lock(bundle: Path, data: Path, tmp_path: Path) -> None:
    """Two at once do not write into one folder."""
    with lock_beside(tmp_path / "new", "recalibration"):
        result = recalibrate(bundle, data, "--output", tmp_path / "new")

    assert result.exit_code == 1
    assert "another process has locked this folder: recalibration, process" in result.output
