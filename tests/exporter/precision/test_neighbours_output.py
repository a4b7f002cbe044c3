"""What the output of neighbours promises on every engine and in every precision."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from batch.engines import engine_problem
from batch.engines.graph_file import GraphFile
from batch.machine.device import choose_device
from batch.scoring.runner import GraphRunner, load_tokenizer
from batch.scoring.session import OpenGraph, TaskSession, output_in_graph
from exporter.graph.trace import GroupGraph, trace_graph
from exporter.precision.fp16 import fuse
from exporter.precision.quantize import quantize
from schemas.arrays import Float32Array
from schemas.bundle.folder import BundleFiles
from schemas.bundle.variants import EngineName, Precision
from schemas.kinds import KINDS
from schemas.kinds.base import OutputSpec
from schemas.text.model_text import ModelText
from schemas.text.tokens import TokenizedText
from tests.batch.neighbours_bundle import NEIGHBOURS, train_neighbours
from tests.tiny import sample_rows
from trainer.checkpoint.reader import Checkpoint

TASKS = ("vectors", "topic")
TEXTS = [ModelText(text, cut=False) for text in sample_rows()["text"].to_list()[:80]]
BF16_INTEGERS = 256
"""Above it, bf16 rounds odd numbers."""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, encoder: Path) -> Checkpoint:
    """A checkpoint with more references than bf16 can count."""
    return Checkpoint.open(train_neighbours(tmp_path_factory.mktemp("outputs"), encoder))


def outputs_of(checkpoint: Checkpoint) -> dict[str, OutputSpec]:
    """Outputs of both tasks, as files of one task have them."""
    return {
        task: KINDS[checkpoint.info.tasks[task].kind]
        .output(checkpoint.model.head(task).width)
        .with_neighbours(checkpoint.model.head(task).neighbours)
        for task in TASKS
    }


@pytest.fixture(scope="module")
def graph(trained: Checkpoint) -> GroupGraph:
    """The graph of both tasks in fp32."""
    return trace_graph(trained.model.joint(TASKS), outputs_of(trained))


@pytest.fixture(scope="module")
def written(graph: GroupGraph, tmp_path_factory: pytest.TempPathFactory) -> BundleFiles:
    """Its files: one for each task, and the shared one."""
    files = BundleFiles(tmp_path_factory.mktemp("files"))
    graph.write(files)
    return files


def runner_of(
    path: Path,
    output: OutputSpec,
    checkpoint: Checkpoint,
    *,
    precision: Precision = "fp32",
    engine: EngineName | None = None,
) -> GraphRunner:
    """Runs one output of a file."""
    opened = OpenGraph.open(
        GraphFile.of_path(path), choose_device("cpu"), precision=precision, engine=engine
    )
    return GraphRunner(
        TaskSession(opened, {"topic": output}),
        load_tokenizer(checkpoint.files.tokenizer.read_bytes(), "tokenizer.json"),
        max_tokens=checkpoint.info.max_tokens,
        pad_id=checkpoint.info.pad_id,
    )


def outputs_by(runner: GraphRunner) -> Float32Array:
    """(texts, labels + 2 * neighbours): votes, similarities, reference numbers."""
    (outputs,) = runner.outputs(runner.tokenize(TEXTS))
    return np.stack(outputs)


def outputs_by_torch(checkpoint: Checkpoint, texts: list[TokenizedText]) -> Float32Array:
    """The same by torch, one text at a time."""
    path = checkpoint.model.joint(("topic",))
    rows = []
    for text in texts:
        ids = torch.tensor(text.ids)[None].long()
        with torch.inference_mode():
            rows.append(torch.cat(path(ids, torch.ones_like(ids)), dim=1)[0].numpy())
    return np.stack(rows)


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_neighbours_are_those_of_torch(
    engine: EngineName, trained: Checkpoint, written: BundleFiles
) -> None:
    """The same numbers, and similarities within the tolerance, beside unchanged votes."""
    output = outputs_of(trained)["topic"]
    assert output.extra is not None
    runner = runner_of(written.onnx("topic"), output, trained, engine=engine)
    ours, theirs = outputs_by(runner), outputs_by_torch(trained, runner.tokenize(TEXTS))
    votes = outputs_by(runner_of(written.onnx("topic"), output.alone, trained, engine=engine))

    assert output.extra.width == 2 * NEIGHBOURS
    assert np.array_equal(ours[:, -NEIGHBOURS:], theirs[:, -NEIGHBOURS:])
    difference = np.abs(ours - theirs)[:, output.width : -NEIGHBOURS]
    assert difference.max() < output.extra.tolerance
    assert np.array_equal(ours[:, : output.width], votes)


def test_the_shared_file_has_the_same_bits(trained: Checkpoint, written: BundleFiles) -> None:
    """Under names that end in the task's."""
    output = outputs_of(trained)["topic"]
    of_shared = output_in_graph(output, "topic", tasks=2)
    alone = outputs_by(runner_of(written.onnx("topic"), output, trained))
    shared = outputs_by(runner_of(written.shared(TASKS[0]), of_shared, trained))

    assert of_shared.names == ("logits.topic", "neighbours.topic")
    assert np.array_equal(alone, shared)


@pytest.mark.parametrize(("precision", "same"), [("bf16", 0.9), ("fp16", 0.95), ("int8", 0.75)])
def test_reduced_precisions_keep_reference_numbers(
    precision: Precision,
    same: float,
    trained: Checkpoint,
    graph: GroupGraph,
    written: BundleFiles,
    tmp_path: Path,
) -> None:
    """No number is rounded, although bf16 has no odd numbers above 256; most neighbours are those
    of fp32.
    """
    if precision != "fp16" and (problem := engine_problem("openvino", precision)) is not None:
        pytest.skip(problem)
    output, path = outputs_of(trained)["topic"], written.onnx("topic")
    expected = outputs_by(runner_of(path, output, trained))[:, -NEIGHBOURS:]
    if precision == "int8":
        quantize(path, tmp_path / "int8.onnx", trained.sample("topic")[:8])
        path = tmp_path / "int8.onnx"
    elif precision == "fp16":
        onnx.save(fuse(graph, layers=2).cut("topic"), tmp_path / "fp16.onnx")
        path = tmp_path / "fp16.onnx"
    runner = runner_of(
        path, output, trained, precision="fp32" if precision == "fp16" else precision
    )
    numbers = outputs_by(runner)[:, -NEIGHBOURS:]
    shares = [np.isin(ours, theirs).mean() for ours, theirs in zip(numbers, expected, strict=True)]

    assert np.array_equal(numbers, np.floor(numbers))
    assert ((numbers > BF16_INTEGERS) & (numbers % 2 == 1)).mean() > 0.1
    assert np.mean(shares) > same
