"""What fp16 promises: fused, close to torch, checked without a GPU, and run by none but a GPU."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from click.testing import CliRunner, Result
from onnx import TensorProto
from tokenizers import Tokenizer

from batch.engines.graph_file import GraphFile
from batch.machine.device import Device, choose_device
from batch.scoring.precision import choose_precision
from batch.scoring.scorer import open_scorer
from batch.scoring.session import OpenGraph, TaskSession, open_session, output_in_graph
from exporter.checks.invariance import rearranged
from exporter.cli import main
from exporter.graph.trace import GroupGraph, trace_graph
from exporter.kinds.base import LABEL_LOSSES
from exporter.precision import reduce, reducer
from exporter.precision.devices import checking_device
from exporter.precision.fp16 import ATTENTION, HEADS, fuse
from exporter.precision.gate import gate
from exporter.precision.recipes import FP16_TOLERANCE, RECIPES, Ingredients, ReducedGraph
from exporter.precision.reduce import available_precisions
from schemas.bundle.folder import Bundle
from schemas.bundle.metadata import ArtefactMetadata
from schemas.bundle.variants import Precision
from schemas.errors import DeviceError, ExportError
from schemas.kinds import KINDS
from schemas.text.model_text import ModelText
from schemas.text.tokens import TokenizedText
from tests.label_tasks import KIND, decision_of, logits_of
from tests.tiny import make_encoder
from trainer.checkpoint.reader import Checkpoint
from trainer.model.encoders import load_encoder
from trainer.model.heads import make_heads
from trainer.model.multitask import MultiTaskModel

# transformers compiles parts of some encoders with a function that torch is about to retire.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")

CUDA = Device("cuda", 0, "for tests")
LAYERS = 2
FUSED = ("bert", "roberta", "xlm-roberta", "electra", "distilbert")
NOT_FUSED = ("mpnet", "deberta-v2", "modernbert", "cnn-bilstm")
GROUP = ("roles", "site", "narrative")
FIXED = [
    word
    for task in (*GROUP, "entity_framing")
    for word in ("--set", f"{task}.thresholds.strategy=fixed")
]
"""With fitted thresholds the tiny model, whose scores hardly differ between texts, would change too
many labels to pass the gate."""


def export(checkpoint: Path, output: Path, *words: str) -> Result:
    """Run `export-classifier --precision fp16`."""
    arguments = [str(checkpoint), "--output", str(output), "--precision", "fp16", *words]
    return CliRunner().invoke(main, arguments)


@pytest.fixture(scope="module")
def trained(joint_bundle: Path) -> Path:
    """The checkpoint of four tasks, three of which read the same text."""
    return joint_bundle.parent / "checkpoint"


@pytest.fixture(scope="module")
def halved(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its bundle with fp16, made through the command line on a machine without CUDA."""
    folder = tmp_path_factory.mktemp("halved") / "bundle"
    result = export(trained, folder, *FIXED)
    assert result.exit_code == 0, result.output
    return folder


PAIR = {"a": ("a 1", "a 2", "a 3"), "b": ("b 1", "b 2")}
"""Labels of two tasks that read the same text."""


def model_of(folder: Path, model_type: str, tokenizer: Tokenizer) -> MultiTaskModel:
    """A tiny encoder of a type, with two heads of random weights."""
    make_encoder(folder, model_type, tokenizer=tokenizer)
    encoder = load_encoder(str(folder), markers=False).model
    widths = {task: len(labels) for task, labels in PAIR.items()}
    return MultiTaskModel(
        encoder, make_heads(encoder, widths, heads={"a": "label_attention"})
    ).eval()


def graph_of_pair(model: MultiTaskModel) -> GroupGraph:
    """The traced graph of both tasks of `model_of`."""
    outputs = {task: KINDS[KIND].output(len(labels)) for task, labels in PAIR.items()}
    return trace_graph(model.joint(tuple(PAIR)), outputs)


def graph_of_group(checkpoint: Path) -> GroupGraph:
    """The traced graph of the three tasks of a checkpoint that read the same text."""
    opened = Checkpoint.open(checkpoint)
    outputs = {task: KINDS[KIND].output(opened.model.head(task).width) for task in GROUP}
    return trace_graph(opened.model.joint(GROUP), outputs)


@pytest.mark.parametrize("model_type", FUSED)
def test_every_layer_is_fused_and_close_to_torch(
    model_type: str, tmp_path: Path, tokenizer: Tokenizer
) -> None:
    """One operation a layer for attention; inputs and outputs as they were."""
    model = model_of(tmp_path, model_type, tokenizer)
    fused = fuse(graph_of_pair(model), layers=LAYERS)
    onnx.save(fused.model, tmp_path / "fp16.onnx")
    input_ids = np.random.default_rng(0).integers(5, 700, (4, 24))
    attention_mask = np.ones_like(input_ids)
    for row, length in ((1, 10), (2, 1)):
        input_ids[row, length:], attention_mask[row, length:] = 0, 0
    opened = OpenGraph.open(GraphFile.of_path(tmp_path / "fp16.onnx"), choose_device("cpu"))
    outputs = {
        task: output_in_graph(KINDS[KIND].output(len(labels)), task, tasks=2)
        for task, labels in PAIR.items()
    }
    logits = TaskSession(opened, outputs).run(input_ids, attention_mask)
    with torch.inference_mode():
        expected = model.joint(tuple(PAIR))(
            torch.from_numpy(input_ids), torch.from_numpy(attention_mask)
        )
    graph = fused.model.graph
    types = [one.type.tensor_type.elem_type for one in (*graph.input, *graph.output)]

    assert sum(node.op_type == ATTENTION for node in graph.node) == LAYERS
    assert types == [TensorProto.INT64] * 2 + [TensorProto.FLOAT] * 2
    assert [array.dtype for array in logits] == [np.float32] * 2
    for of_onnx, of_torch in zip(logits, expected, strict=True):
        assert 0 < np.abs(of_onnx - of_torch.numpy()).max() < FP16_TOLERANCE


@pytest.mark.parametrize("model_type", NOT_FUSED)
def test_an_encoder_that_is_not_recognized_is_refused(
    model_type: str, tmp_path: Path, tokenizer: Tokenizer
) -> None:
    """Half a fusion would be slow on CUDA, so there is none."""
    graph = graph_of_pair(model_of(tmp_path, model_type, tokenizer))

    with pytest.raises(ExportError, match="attention was fused in 0 of 2 layers"):
        fuse(graph, layers=LAYERS)


def test_one_layer_that_is_not_fused_is_refused(trained: Path) -> None:
    """The count must be that of the encoder."""
    graph = graph_of_group(trained)

    with pytest.raises(ExportError, match="attention was fused in 2 of 3 layers"):
        fuse(graph, layers=3)


def test_the_encoder_is_in_fp16_and_the_heads_are_not(trained: Path) -> None:
    """Weights of heads are as they were trained; fusing again gives the same bytes."""
    graph = graph_of_group(trained)
    fused = fuse(graph, layers=LAYERS).model
    kinds = {one.name: one.data_type for one in fused.graph.initializer}
    heads = [node for node in fused.graph.node if node.name.startswith(HEADS)]
    read = {name for node in heads for name in node.input}

    assert kinds["encoder.embeddings.word_embeddings.weight"] == TensorProto.FLOAT16
    assert {kinds[name] for name in read & kinds.keys()} <= {TensorProto.FLOAT, TensorProto.INT64}
    assert any(name.startswith("heads.") for name in read)
    computing = {
        node.name for node in graph.model.graph.node if node.op_type not in ("Constant", "Identity")
    }
    assert all(name.startswith(("/encoder/", HEADS)) for name in computing)
    again = fuse(graph, layers=LAYERS).model
    assert fused.SerializeToString() == again.SerializeToString()


def test_files_of_fp16_are_listed_first_and_describe_themselves(halved: Path) -> None:
    """What passed, against what, and on which device it was measured."""
    bundle = Bundle.open(halved)
    for task in (*GROUP, "entity_framing"):
        assert dict(bundle.precisions((task,))) == {
            "fp16": f"{task}.fp16.onnx",
            "fp32": f"{task}.onnx",
        }
        assert next(iter(bundle.precisions((task,)))) == "fp16"
        about = metadata_of(bundle, task)
        assert about.precision == "fp16"
        assert about.cost is not None
        assert about.cost.device == "cpu"
        assert gate(about.cost, LABEL_LOSSES) is None
        assert about.metrics.verification.logit_tolerance == FP16_TOLERANCE
        assert 0 < about.metrics.verification.max_logit_difference < FP16_TOLERANCE
    assert dict(bundle.precisions(GROUP))["fp16"] == "shared-roles.fp16.onnx"


def test_inspect_reports_where_fp16_was_measured(halved: Path) -> None:
    """`inspect` shows the precision, its tolerance, and the kind of device."""
    result = CliRunner().invoke(main, ["inspect", str(halved / "narrative.fp16.onnx")])

    assert "precision: fp16" in result.output
    assert "measured on a CPU: answers to 0.00% of the texts differ" in result.output
    assert "(tolerance 5e-02)" in result.output


def metadata_of(bundle: Bundle, task: str) -> ArtefactMetadata:
    """What the fp16 file of a task says of itself."""
    cpu = choose_device("cpu")
    _, (metadata,) = open_session(bundle, (task,), cpu, precision="fp16")
    return metadata


def test_joint_and_cut_files_have_the_same_bits(halved: Path) -> None:
    """Both are of one fused graph."""
    bundle, device = Bundle.open(halved), choose_device("cpu")
    texts = [ModelText(text, cut=False) for text in ("Aid is wasted.", "Talks now, or war. " * 9)]
    joint = open_scorer(bundle, GROUP, device, precision="fp16")
    alone = [open_scorer(bundle, (task,), device, precision="fp16").runner for task in GROUP]
    together = [np.stack(rows) for rows in joint.runner.outputs(joint.runner.tokenize(texts))]
    apart = [logits_of(runner, runner.tokenize(texts)) for runner in alone]

    assert [array.tobytes() for array in together] == [array.tobytes() for array in apart]


def test_a_cpu_is_refused_and_auto_passes_over_fp16(halved: Path) -> None:
    """A CPU would compute it in fp32; CUDA takes it, and takes nothing that is for a CPU."""
    bundle, cpu = Bundle.open(halved), choose_device("cpu")

    with pytest.raises(DeviceError, match="--precision fp16 is not available: it is for CUDA"):
        choose_precision(bundle, GROUP, cpu, "fp16")
    assert choose_precision(bundle, GROUP, cpu, "auto") == "fp32"
    assert choose_precision(bundle, GROUP, CUDA, "auto") == "fp16"
    assert choose_precision(bundle, ("narrative",), CUDA, "fp16") == "fp16"


def test_verify_says_what_cannot_be_checked_here(halved: Path) -> None:
    """Hash, metadata and external data are checked; a note says that scores are not."""
    result = CliRunner().invoke(main, ["verify", str(halved)])
    (line,) = [row for row in result.output.splitlines() if "narrative.fp16.onnx" in row]

    assert result.exit_code == 0, result.output
    assert line.startswith("note")
    assert "is one file with valid metadata; its scores cannot be checked here" in line


def test_recalibrating_without_cuda_fits_fp16_on_the_cpu(halved: Path, tmp_path: Path) -> None:
    """It says so, and the comparison with torch at export stays."""
    rows = Path(__file__).parents[3] / "samples" / "articles.parquet"
    words = ["recalibrate", str(halved), "--task", "narrative", "--data", str(rows)]
    words += ["--labels-column", "narratives", "--output", str(tmp_path / "new")]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 0, result.output
    before, after = (
        metadata_of(Bundle.open(folder), "narrative") for folder in (halved, tmp_path / "new")
    )

    assert after.recalibration is not None
    assert decision_of(after).calibration != decision_of(before).calibration
    assert after.metrics.verification == before.metrics.verification
    assert after.cost is not None
    assert after.cost.device == "cpu"


@pytest.mark.parametrize(
    ("tolerance", "layers", "message"),
    [(1e-9, LAYERS, "differs from torch by"), (FP16_TOLERANCE, 5, "fused in 2 of 5 layers")],
    ids=["too far from torch", "not fused"],
)
def test_what_does_not_hold_is_left_out(
    trained_alone: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    tolerance: float,
    layers: int,
    message: str,
) -> None:
    """The export continues in fp32, says why, and leaves no file behind."""

    def make(ingredients: Ingredients) -> ReducedGraph:
        assert RECIPES["fp16"].make
        return RECIPES["fp16"].make(replace(ingredients, layers=layers))

    recipe = replace(RECIPES["fp16"], make=make, torch_tolerance=tolerance)
    monkeypatch.setattr(reducer, "RECIPES", {**RECIPES, "fp16": recipe})
    with caplog.at_level(logging.INFO):
        result = export(trained_alone, tmp_path / "bundle")

    assert result.exit_code == 0, result.output
    assert list(Bundle.open(tmp_path / "bundle").precisions(("narrative",))) == ["fp32"]
    assert not list((tmp_path / "bundle").glob("*.fp16.onnx"))
    assert "fp16: left out: " in caplog.text
    assert message in caplog.text


def test_fp16_is_made_by_default_where_cuda_works(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is checked there; without CUDA it is made on request only, and checked by the CPU."""
    assert "fp16" not in available_precisions()
    assert checking_device("fp16").kind == "cpu"

    monkeypatch.setattr(reduce, "cuda_problem", lambda: None)
    monkeypatch.setattr("batch.machine.device.cuda_problem", lambda index=0: None)

    assert "fp16" in available_precisions()
    assert [checking_device(each).kind for each in ("fp32", "fp16", "int8")] == [
        "cpu",
        "cuda",
        "cpu",
    ]


@pytest.mark.gpu
@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-3), ("fp16", FP16_TOLERANCE)])
def test_cuda_scores_like_a_cpu_and_the_same_every_time(
    halved: Path, trained: Path, precision: Precision, tolerance: float
) -> None:
    """Within the tolerance of fp32 on a CPU, and the same bits in every arrangement."""
    bundle = Bundle.open(halved)
    ids = Checkpoint.open(trained).sample("narrative")
    texts = [TokenizedText(text, truncated=False) for text in ids]
    plain = open_scorer(bundle, ("narrative",), choose_device("cpu"), precision="fp32").runner
    cuda = choose_device("cuda")
    # Batches of few texts, so that there are many of them one after the other.
    runner = open_scorer(
        bundle, ("narrative",), cuda, precision=precision, tokens_per_batch=512
    ).runner
    logits = logits_of(runner, texts)

    assert 0 < np.abs(logits - logits_of(plain, texts)).max() < tolerance
    for _ in range(5):
        assert np.array_equal(logits_of(runner, texts), logits)
    for arrangement, outputs in rearranged(runner, texts).items():
        assert np.array_equal(np.stack(outputs), logits), arrangement
