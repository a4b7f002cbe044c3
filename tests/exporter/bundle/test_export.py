"""What an exported bundle promises, from the checkpoint to the served decision."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from click.testing import CliRunner, Result

from batch.cli import main as batch_main
from batch.engines.graph_file import GraphFile
from batch.machine.device import choose_device
from batch.scoring.scorer import Scorer
from batch.scoring.session import OpenGraph
from exporter.bundle.export import export_checkpoint
from exporter.cli import main as export_main
from exporter.decision.calibration import cross_fitted, fit_calibration
from exporter.decision.reliability import calibration_error
from exporter.graph.trace import OPSET
from schemas.bundle.folder import Bundle
from schemas.bundle.metadata import ArtefactMetadata, metadata_model
from schemas.bundle.props import PREFIX
from schemas.decision.decide import Calibration, calibrate, decide
from schemas.decision.metrics import Hits
from schemas.decision.thresholds import (
    ThresholdRule,
    find_thresholds,
    held_out_decisions,
    threshold_intervals,
)
from schemas.io.files import FileFacts
from schemas.io.lock import lock_beside
from schemas.kinds.base import OutputSpec, corrected
from schemas.tasks.task import label_matrix
from schemas.text.model_text import Article, ModelText, model_text
from tests.exporting import export_classifier, folder_contents, scorer_of
from tests.label_tasks import KIND, decision_of, evidence_of, label_sets, logits_of
from tests.strategies import Bools, Floats
from tests.tiny import TRAIN_FILE, sample_rows, write_config
from trainer.checkpoint.reader import CORRECTION, GOLD, Checkpoint, heldout_schema
from trainer.cli import main as train_main

TASKS = ["narrative", "entity_framing"]
EACH_TASK = pytest.mark.parametrize("task", TASKS)


def sample_texts(metadata: ArtefactMetadata) -> list[ModelText]:
    """The articles of the sample corpus as model texts."""
    return [
        model_text(
            Article(row["text"], row["title"], row["entity"], row["start"], row["end"]),
            metadata.text,
            max_tokens=metadata.max_tokens,
        )
        for row in sample_rows().to_dicts()
    ]


def heldout(checkpoint: Path, task: str) -> list[dict[str, Any]]:
    """The held-out rows of a checkpoint."""
    rows: list[dict[str, Any]] = pq.read_table(
        checkpoint / "heldout" / f"{task}.parquet"
    ).to_pylist()
    return rows


def heldout_logits(checkpoint: Path, scorer: Scorer) -> tuple[Floats, Bools]:
    """Logits of the held-out rows through the bundle, as if never seen, and their gold labels."""
    metadata, opened = scorer.metadata, Checkpoint.open(checkpoint)
    articles, gold = opened.heldout(metadata.task)
    texts = [model_text(one, metadata.text, max_tokens=metadata.max_tokens) for one in articles]
    logits = logits_of(scorer.runner, scorer.runner.tokenize(texts))
    logits = np.stack(corrected(list(logits), opened.corrections(metadata.task)))
    return logits, label_matrix(gold, metadata.labels, source="held-out rows")


@EACH_TASK
def test_served_logits_and_decisions_are_those_of_torch(
    checkpoint: Path, bundle: Path, task: str
) -> None:
    """On the sample corpus, through the bundle, every logit and every decision agrees."""
    scorer = scorer_of(bundle, task)
    texts = sample_texts(scorer.metadata)
    tokenized = scorer.runner.tokenize(texts)
    served = logits_of(scorer.runner, tokenized)
    model = Checkpoint.open(checkpoint).model
    with torch.inference_mode():
        expected = np.concatenate(
            [
                model.path(task)(ids, torch.ones_like(ids)).numpy()
                for text in tokenized
                for ids in [torch.from_numpy(text.ids.astype(np.int64))[None]]
            ]
        )

    np.testing.assert_allclose(served, expected, rtol=0, atol=OutputSpec.tolerance)
    decision = decision_of(scorer.metadata)
    decided = decide(calibrate(expected, decision.calibration), decision.threshold_array)
    assert (label_sets(scorer.score(texts), task).decided == decided).all()
    assert 0 < decided.mean() < 1


@EACH_TASK
def test_graph_keeps_the_contract(bundle: Path, task: str) -> None:
    """Names, dynamic axes and opset of the published file are those that were promised."""
    graph = onnx.load(bundle / f"{task}.onnx").graph
    shapes = {
        entry.name: [axis.dim_param or axis.dim_value for axis in entry.type.tensor_type.shape.dim]
        for entry in [*graph.input, *graph.output]
    }
    labels = len(scorer_of(bundle, task).metadata.labels)

    assert shapes == {
        "input_ids": ["rows", "seq"],
        "attention_mask": ["rows", "seq"],
        "logits": ["rows", labels],
    }
    assert onnx.load(bundle / f"{task}.onnx").opset_import[0].version >= OPSET


@EACH_TASK
def test_metadata_is_complete(checkpoint: Path, bundle: Path, task: str) -> None:
    """Everything DESIGN.md lists is in the file, and agrees with the checkpoint."""
    props = {entry.key: entry.value for entry in onnx.load(bundle / f"{task}.onnx").metadata_props}
    info = Checkpoint.open(checkpoint).info
    fields = {key.removeprefix(PREFIX): json.loads(value) for key, value in props.items()}

    assert set(fields) >= {
        "schema_version",
        "task",
        "kind",
        "labels",
        "thresholds",
        "calibration",
        "evidence",
        "max_tokens",
        "text",
        "tokenizer_sha256",
        "encoder",
        "training",
        "metrics",
        "precision",
    }
    assert (fields["task"], fields["kind"]) == (task, info.tasks[task].kind)
    assert tuple(fields["labels"]) == info.tasks[task].labels
    assert fields["training"] == info.tasks[task].training.model_dump(mode="json")
    assert fields["encoder"] == info.encoder.model_dump()
    assert fields["text"] == info.tasks[task].text.model_dump()
    assert fields["tokenizer_sha256"] == FileFacts.of(bundle / "tokenizer.json").sha256
    assert fields["max_tokens"] == info.max_tokens
    assert fields["metrics"]["verification"]["texts"] > 0


@EACH_TASK
def test_thresholds_come_from_the_held_out_rows_alone(
    checkpoint: Path, bundle: Path, task: str
) -> None:
    """Calibration, thresholds and metrics follow from the held-out file."""
    scorer = scorer_of(bundle, task)
    metadata, decision = scorer.metadata, decision_of(scorer.metadata)
    logits, gold = heldout_logits(checkpoint, scorer)
    calibration = fit_calibration(logits, gold, "platt")
    probabilities = calibrate(logits, calibration)
    thresholds = find_thresholds(probabilities, gold)

    assert decision.calibration == calibration
    assert decision.threshold_array.tolist() == thresholds.tolist()
    scores = Hits.count(gold, decide(probabilities, thresholds)).scores()
    assert metadata.metrics.validation == scores


@EACH_TASK
def test_what_the_decision_is_worth_comes_from_unseen_rows(
    checkpoint: Path, bundle: Path, task: str
) -> None:
    """Score and calibration error are of rows that had no say; intervals are of resamples."""
    scorer = scorer_of(bundle, task)
    metadata, evidence = scorer.metadata, evidence_of(scorer.metadata)
    calibration = decision_of(metadata).calibration
    logits, gold = heldout_logits(checkpoint, scorer)
    rule = ThresholdRule()
    unseen = cross_fitted(logits, gold, calibration.method)
    probabilities = calibrate(logits, calibration)
    before = calibrate(logits, Calibration.none(len(metadata.labels)))

    decided = held_out_decisions(unseen, gold, rule)
    assert metadata.metrics.cross_validated == Hits.count(gold, decided).scores()
    assert evidence.after == calibration_error(unseen, gold)
    assert evidence.before == calibration_error(before, gold)
    assert evidence.positives == tuple(gold.sum(axis=0))
    intervals = threshold_intervals(probabilities, gold, rule)
    assert np.array_equal(np.array(evidence.intervals, dtype=np.float32), intervals)
    assert (evidence.calibration, evidence.thresholds) == ("platt", rule)


@EACH_TASK
def test_held_out_rows_are_no_training_rows(checkpoint: Path, task: str) -> None:
    """All texts differ, and each is either held out or trained on."""
    every = pq.read_table(checkpoint.parent / TRAIN_FILE)["text"].to_pylist()
    held = [row["text"] for row in heldout(checkpoint, task)]
    trained = Checkpoint.open(checkpoint).info.tasks[task].training.train_rows

    assert len(set(every)) == len(every)
    assert len(set(held)) == len(held)
    assert set(held) <= set(every)
    assert len(held) + trained == len(every)


def test_other_held_out_rows_give_other_thresholds(
    ours_alone: Path, bundle_alone: Path, tmp_path: Path
) -> None:
    """Thresholds follow the held-out file; weights do not."""
    path = ours_alone / "heldout" / "narrative.parquet"
    table = pq.read_table(path)
    pq.write_table(table.slice(0, table.num_rows // 2), path)
    export_checkpoint(ours_alone, tmp_path / "bundle", precisions=["fp32"])
    before, after = (
        scorer_of(folder, "narrative") for folder in (bundle_alone, tmp_path / "bundle")
    )

    assert decision_of(before.metadata).thresholds != decision_of(after.metadata).thresholds
    texts = before.runner.tokenize(sample_texts(before.metadata)[:20])
    assert logits_of(before.runner, texts).tolist() == logits_of(after.runner, texts).tolist()


def test_exporting_twice_gives_the_same_bytes(
    trained_alone: Path, bundle_alone: Path, tmp_path: Path
) -> None:
    """The same checkpoint is the same bundle, in a new folder and over an old one."""
    for _ in ("new", "old"):
        export_checkpoint(trained_alone, tmp_path / "again", precisions=["fp32"])
        assert folder_contents(tmp_path / "again") == folder_contents(bundle_alone)

    assert [path.name for path in tmp_path.iterdir()] == ["again"]


def test_bundle_is_whole(bundle: Path) -> None:
    """A graph and a diagram a task, one tokenizer, a card, and a manifest with every hash."""
    opened = Bundle.open(bundle)
    opened.check_all()

    names = {"tokenizer.json", "MODEL_CARD.md", "probes.parquet"}
    names |= {name for task in TASKS for name in (f"{task}.onnx", f"reliability-{task}.png")}
    assert set(folder_contents(bundle)) == {*names, "bundle.json"}
    assert set(opened.manifest.files) == names
    assert opened.manifest.tasks == {task: {"fp32": f"{task}.onnx"} for task in TASKS}


def test_tasks_share_one_tokenizer(checkpoint: Path, bundle: Path) -> None:
    """Both files name the hash of the one tokenizer, which is the checkpoint's, byte for byte."""
    hashes = {scorer_of(bundle, task).metadata.tokenizer_sha256 for task in TASKS}

    assert hashes == {FileFacts.of(checkpoint / "tokenizer.json").sha256}
    assert folder_contents(bundle)["tokenizer.json"] == (checkpoint / "tokenizer.json").read_bytes()


def test_card_mentions_each_task_and_label(bundle: Path) -> None:
    """The card has a section a task with its diagram, and a line a label with what is known."""
    card = (bundle / "MODEL_CARD.md").read_text()

    for task in TASKS:
        metadata = scorer_of(bundle, task).metadata
        assert f"\n## {task}\n" in card
        section = card.split(f"\n## {task}\n")[1].split("\n## ")[0]
        assert f"](reliability-{task}.png)" in section
        assert metadata.metrics.cross_validated.summary() in section
        assert metadata.metrics.validation.summary() in section
        thresholds, evidence = decision_of(metadata).thresholds, evidence_of(metadata)
        for column, label in enumerate(metadata.labels):
            trained, held = metadata.training.positives[column], evidence.positives[column]
            low, high = evidence.intervals[column]
            assert (
                f"| {label} | {trained} | {held} | "
                f"{thresholds[column]:.3f} | {low:.3f} to {high:.3f} | "
                f"{evidence.before.ece[column]:.3f} | {evidence.after.ece[column]:.3f} | "
                f"{evidence.after.brier[column]:.4f} |"
            ) in section


@EACH_TASK
def test_inspect_shows_labels_and_thresholds(bundle: Path, task: str) -> None:
    """What a file says of itself can be read by a person."""
    result = export_classifier("inspect", bundle / f"{task}.onnx")
    metadata = scorer_of(bundle, task).metadata

    assert result.exit_code == 0
    assert task in result.output
    thresholds = decision_of(metadata).thresholds
    for label, threshold in zip(metadata.labels, thresholds, strict=True):
        (line,) = [line for line in result.output.splitlines() if line.startswith(f"| {label} |")]
        assert f"{threshold:.3f}" in line


@EACH_TASK
def test_inspect_prints_json(bundle: Path, task: str) -> None:
    """And by a program: nothing but one JSON object, with every field."""
    result = export_classifier("inspect", bundle / f"{task}.onnx", "--json")

    read = metadata_model(KIND).model_validate_json(result.output)
    assert read == scorer_of(bundle, task).metadata
    assert json.loads(result.output)["labels"]


def test_inspect_refuses_other_files(ours: Path, tmp_path: Path) -> None:
    """A file that is not ONNX, and ONNX without metadata, are errors without a traceback."""
    stranger = tmp_path / "stranger.onnx"
    model = onnx.helper.make_model(
        onnx.helper.make_graph(
            [onnx.helper.make_node("Identity", ["a"], ["b"])],
            "g",
            [onnx.helper.make_tensor_value_info("a", onnx.TensorProto.FLOAT, [1])],
            [onnx.helper.make_tensor_value_info("b", onnx.TensorProto.FLOAT, [1])],
        ),
        opset_imports=[onnx.helper.make_opsetid("", 17)],
        ir_version=8,
    )
    onnx.save(model, stranger)

    for path, message in ((ours / "config.json", "not an ONNX file"), (stranger, "no narrascan.*")):
        result = export_classifier("inspect", path)
        assert result.exit_code == 1
        assert message in result.output
        assert "Traceback" not in result.output


@pytest.fixture(scope="module")
def decided_again(
    checkpoint: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Result]:
    """A bundle with other thresholds of one task, and the command that wrote it, in its long
    form.
    """
    output = tmp_path_factory.mktemp("settings") / "bundle"
    result = export_classifier(
        *("export", checkpoint, "--output", output),
        *("--precision", "fp32"),  # whether another passes its gate depends on the thresholds
        *("--set", "narrative.thresholds.strategy=global"),
        *("--set", "narrative.thresholds.objective=macro_f1"),
    )
    assert result.exit_code == 0, result.output
    return output, result


def test_command_names_the_next_step(decided_again: tuple[Path, Result]) -> None:
    """At its end the command names the tasks and the next command."""
    output, result = decided_again

    assert "tasks: narrative, entity_framing" in result.output
    assert f"batch-classify articles.parquet --bundle {output}" in result.output


def test_file_scores_with_its_tokenizer_alone(bundle: Path, tmp_path: Path) -> None:
    """Without manifest and card, a file and its tokenizer are enough."""
    shutil.copy(bundle / "narrative.onnx", tmp_path)
    graph = GraphFile.of_path(tmp_path / "narrative.onnx")
    by_task = OpenGraph.open(graph, choose_device("cpu")).metadata()

    assert by_task == {"narrative": scorer_of(bundle, "narrative").metadata}


def test_diagrams_are_pictures(bundle: Path) -> None:
    """Each task has a reliability diagram that a viewer opens."""
    for task in TASKS:
        height, width, _ = matplotlib.image.imread(bundle / f"reliability-{task}.png").shape
        assert min(height, width) >= 600


@pytest.mark.parametrize("method", ["none", "temperature", "platt", "vector", "isotonic", "auto"])
def test_every_calibration_is_served_as_it_was_fitted(
    ours_alone: Path, tmp_path: Path, method: Any
) -> None:
    """From checkpoint to predictions.parquet, probabilities and labels are those of the rule."""
    many_heldout_rows(ours_alone, every=2 if method == "isotonic" else 4)
    rule = ThresholdRule(strategy="per_label", objective="recall_floor", floor=0.75)
    settings = [f"narrative.calibration={method}", "narrative.thresholds.strategy=per_label"]
    settings += ["narrative.thresholds.objective=recall_floor", "narrative.thresholds.floor=0.75"]
    export_checkpoint(ours_alone, tmp_path / "bundle", settings, precisions=["fp32"])
    scorer = scorer_of(tmp_path / "bundle", "narrative")
    logits, gold = heldout_logits(ours_alone, scorer)
    calibration = fit_calibration(logits, gold, method)
    expected = calibrate(logits, calibration)
    thresholds = find_thresholds(expected, gold, rule)

    table = pq.read_table(ours_alone / "heldout" / "narrative.parquet").select(["text", "title"])
    pq.write_table(table, tmp_path / "corpus.parquet")
    words = [str(tmp_path / "corpus.parquet"), "--bundle", str(tmp_path / "bundle")]
    words += ["--task", "narrative", "--device", "cpu", "--output", str(tmp_path / "scored")]
    result = CliRunner().invoke(batch_main, words)
    assert result.exit_code == 0, result.output
    served = pq.read_table(tmp_path / "scored" / "predictions").to_pylist()

    assert method in (calibration.method, "auto")
    assert method != "isotonic" or any(calibration.knots)
    assert decision_of(scorer.metadata).calibration == calibration
    assert evidence_of(scorer.metadata).thresholds == rule
    labels = scorer.metadata.labels
    probabilities = [[dict(row["probabilities"])[label] for label in labels] for row in served]
    assert np.array(probabilities, dtype=np.float32).tobytes() == expected.tobytes()
    assert [row["labels"] for row in served] == [
        [label for label, yes in zip(labels, row, strict=True) if yes]
        for row in decide(expected, thresholds)
    ]


def many_heldout_rows(checkpoint: Path, *, every: int) -> None:
    """Hold out rows that were trained on too, so that labels have fits of their own."""
    samples = sample_rows("train").gather_every(every)
    labels = samples["narratives"].to_list()
    known = Checkpoint.open(checkpoint).info.tasks["narrative"].labels
    rows = {
        "text": samples["text"].to_list(),
        "title": samples["title"].to_list(),
        **{name: [None] * len(samples) for name in ("entity", "start", "end")},
        GOLD: [[label for label in row if label in known] for row in labels],
        CORRECTION: [None] * len(samples),
    }
    pq.write_table(
        pa.table(rows, schema=heldout_schema(KIND)), checkpoint / "heldout" / "narrative.parquet"
    )


def test_settings_change_thresholds_and_nothing_else(
    bundle: Path, decided_again: tuple[Path, Result]
) -> None:
    """`--set` decides one task again; the graph and the other task stay as they were."""
    again, _ = decided_again
    before, after = (
        decision_of(scorer_of(folder, "narrative").metadata) for folder in (bundle, again)
    )

    assert len({*after.thresholds}) == 1 < len({*before.thresholds})
    assert after.calibration == before.calibration
    name = "entity_framing.onnx"
    assert (again / name).read_bytes() == (bundle / name).read_bytes()


def test_wrong_settings_are_wrong_usage(checkpoint: Path, tmp_path: Path) -> None:
    """Every problem is reported with what there is, and nothing is written."""
    result = export_classifier(
        *(checkpoint, "--output", tmp_path / "bundle"),
        *("--set", "narative.calibration=none"),
        *("--set", "narrative.thresholds.folds=1"),
    )

    assert result.exit_code == 2
    assert "unknown task 'narative'; did you mean 'narrative'?" in result.output
    assert "narrative.thresholds: folds = 1 leaves no rows" in result.output
    assert list(tmp_path.iterdir()) == []


def test_decision_of_the_training_config_reaches_the_file(encoder: Path, tmp_path: Path) -> None:
    """What the config says of a task is what export does, and another task keeps the defaults."""
    decision = """
    [tasks.narrative.decision]
    calibration = "temperature"
    thresholds = { strategy = "fixed", fixed = 0.25 }
    """
    config = write_config(tmp_path / "config.toml", encoder, epochs=1, extra=decision)
    trained = CliRunner().invoke(train_main, [str(config), "--output", str(tmp_path / "trained")])
    assert trained.exit_code == 0, trained.output
    export_checkpoint(tmp_path / "trained", tmp_path / "bundle", precisions=["fp32"])
    narrative, framing = (scorer_of(tmp_path / "bundle", task).metadata for task in TASKS)

    assert {*decision_of(narrative).thresholds} == {0.25}
    assert decision_of(narrative).calibration.method == "temperature"
    assert evidence_of(narrative).calibration == "temperature"
    assert evidence_of(framing).thresholds == ThresholdRule()
    assert evidence_of(framing).calibration == "platt"


def test_checkpoint_and_foreign_folders_are_not_replaced(checkpoint: Path, tmp_path: Path) -> None:
    """A bundle takes the place of a bundle only: not of its checkpoint, nor of other files."""
    source = shutil.copytree(checkpoint, tmp_path / "checkpoint")
    (tmp_path / "link").symlink_to(source)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "bundle.json").write_text("{}")
    before = {path: path.read_bytes() for path in source.rglob("*") if path.is_file()}
    for output in (source, tmp_path / "link", tmp_path, tmp_path / "mine"):
        result = CliRunner().invoke(export_main, [str(source), "--output", str(output)])

        assert result.exit_code == 1
        assert "contains files that are not a bundle" in result.output
    assert {path: path.read_bytes() for path in source.rglob("*") if path.is_file()} == before
    assert (tmp_path / "link").is_symlink()


def test_locked_bundle_is_not_written(checkpoint: Path, tmp_path: Path) -> None:
    """A second export into one folder ends with the process that locked it, and leaves nothing."""
    with lock_beside(tmp_path / "bundle", "export"):
        words = [str(checkpoint), "--output", str(tmp_path / "bundle")]
        result = CliRunner().invoke(export_main, words)

    assert result.exit_code == 1
    assert (
        f"another process has locked this folder: export, process {os.getpid()} on" in result.output
    )
    assert list(tmp_path.iterdir()) == []
