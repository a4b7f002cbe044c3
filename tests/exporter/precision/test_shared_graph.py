"""What the one file of tasks that read the same text promises."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx

from batch.machine.device import choose_device
from batch.scoring.scorer import open_scorer
from exporter.kinds import EXPORTER_KINDS
from exporter.kinds.base import LabelledOutputs
from exporter.precision.gate import Reference
from exporter.precision.shared_graph import shared_mismatch
from schemas.bundle.folder import Bundle, BundleFiles
from schemas.bundle.metadata import metadata_model
from schemas.decision.settings import DecisionConfig
from schemas.text.model_text import ModelText
from tests.exporting import export_classifier, scorer_of
from tests.label_tasks import KIND


def test_tasks_that_read_the_same_text_share_a_file(joint_bundle: Path) -> None:
    """The manifest names it with its tasks, and it says of each what the task's own file says."""
    opened = Bundle.open(joint_bundle)
    (graph,) = opened.manifest.shared
    scorer = open_scorer(opened, graph.tasks, choose_device("cpu"), precision="fp32")
    single = [scorer_of(joint_bundle, task).metadata for task in graph.tasks]

    assert graph.tasks == ("roles", "site", "narrative")
    assert graph.files == {"fp32": "shared-roles.onnx"}
    assert "shared-roles.onnx" in opened.manifest.files
    assert list(scorer.tasks) == single
    assert "`shared-roles.onnx` runs the encoder once" in opened.files.card.read_text()


def test_shared_file_has_the_encoder_once(joint_bundle: Path) -> None:
    """It is little larger than the file of one task, and its outputs are named after the tasks."""
    graph = onnx.load(joint_bundle / "shared-roles.onnx").graph
    sizes = {path.name: path.stat().st_size for path in joint_bundle.glob("*.onnx")}

    assert sizes["shared-roles.onnx"] < 1.5 * sizes["narrative.onnx"]
    assert [one.name for one in graph.output] == ["logits.roles", "logits.site", "logits.narrative"]


def test_inspect_shows_every_task_of_a_shared_file(joint_bundle: Path) -> None:
    """As a page, and as JSON by task."""
    page = export_classifier("inspect", joint_bundle / "shared-roles.onnx")
    printed = export_classifier("inspect", joint_bundle / "shared-roles.onnx", "--json")

    assert all(f"## {task}" in page.output for task in ("roles", "site", "narrative"))
    by_task = json.loads(printed.output)
    assert set(by_task) == {"roles", "site", "narrative"}
    for task, about in by_task.items():
        assert metadata_model(KIND).model_validate(about) == scorer_of(joint_bundle, task).metadata


def reference_of(bundle: Path, task: str) -> Reference:
    """What fp32 says of a few texts, with gold labels drawn at random."""
    scorer = scorer_of(bundle, task)
    texts = scorer.runner.tokenize(
        [ModelText(f"Article {number} of some.", cut=False) for number in range(30)]
    )
    (outputs,) = scorer.runner.outputs(texts)
    labels = scorer.metadata.labels
    gold = np.random.default_rng(0).random((len(texts), len(labels))) < 0.5
    rows = LabelledOutputs(labels, texts, outputs, gold)
    config = DecisionConfig()
    return Reference(
        task=task,
        kind=KIND,
        rows=rows,
        config=config,
        fitted=EXPORTER_KINDS[KIND].fit(rows, config),
        output=scorer.metadata.output,
        tokenizer_json=(bundle / "tokenizer.json").read_bytes(),
        max_tokens=scorer.metadata.max_tokens,
        pad_id=scorer.metadata.pad_id,
    )


def test_shared_file_that_differs_is_reported(joint_bundle: Path, tmp_path: Path) -> None:
    """One head with other weights in the shared file is reported with its task."""
    files = BundleFiles(Path(shutil.copytree(joint_bundle, tmp_path / "bundle")))
    references = {task: reference_of(joint_bundle, task) for task in ("roles", "site", "narrative")}
    assert shared_mismatch(files, references, "fp32") is None
    path = files.shared("roles")
    model = onnx.load(path)
    weights = next(one for one in model.graph.initializer if list(one.dims) == [2])  # site's bias
    weights.CopyFrom(
        onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(weights) + 1, weights.name)
    )
    onnx.save(model, path)

    problem = shared_mismatch(files, references, "fp32")
    assert problem is not None
    assert "outputs of task 'site' differ from those of site.onnx" in problem
