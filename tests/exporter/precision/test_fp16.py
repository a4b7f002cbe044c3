"""What fp16 promises: fused, close to torch, checked without a GPU, and run by none but a GPU."""

from __future__ import annotations

import logging
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
from batch.scoring.session import TaskSession, open_session
from exporter.checks.invariance import rearranged
from exporter.cli import main
from exporter.graph.trace import trace_graph
from exporter.precision import reduce
from exporter.precision.devices import checking_device
from exporter.precision.fp16 import ATTENTION, HEADS, fuse
from exporter.precision.gate import gate
from exporter.precision.reduce import FP16_TOLERANCE, available_precisions
from schemas.bundle.folder import Bundle
from schemas.bundle.metadata import ArtefactMetadata
from schemas.bundle.variants import Precision
from schemas.errors import DeviceError, ExportError
from schemas.text.model_text import ModelText
from schemas.text.tokens import TokenizedText
from tests.tiny import make_encoder
from trainer.checkpoint.reader import Checkpoint
from trainer.model.encoders import load_encoder
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
"""Thresholds of its own choice would let the tiny model, which hardly tells texts apart, flip too
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


def model_of(folder: Path, kind: str, tokenizer: Tokenizer) -> MultiTaskModel:
    """A tiny encoder of a type, with two heads of random weights."""
    make_encoder(folder, kind, tokenizer=tokenizer)
    encoder = load_encoder(str(folder), markers=False)
    return MultiTaskModel(encoder.model, {"a": 3, "b": 2}, heads={"a": "label_attention"}).eval()


@pytest.mark.parametrize("kind", FUSED)
def test_every_layer_is_fused_and_close_to_torch(
    kind: str, tmp_path: Path, tokenizer: Tokenizer
) -> None:
    """One operation a layer for attention; inputs and outputs as they were."""
    model = model_of(tmp_path, kind, tokenizer)
    joint = model.joint(("a", "b"))
    fused = fuse(trace_graph(joint), layers=LAYERS)
    onnx.save(fused.model, tmp_path / "fp16.onnx")
    input_ids = np.random.default_rng(0).integers(5, 700, (4, 24))
    attention_mask = np.ones_like(input_ids)
    for row, length in ((1, 10), (2, 1)):
        input_ids[row, length:], attention_mask[row, length:] = 0, 0
    session = TaskSession(
        GraphFile.of_path(tmp_path / "fp16.onnx"), choose_device("cpu"), tasks=("a", "b")
    )
    found = session.run(input_ids, attention_mask)
    with torch.inference_mode():
        expected = joint(torch.from_numpy(input_ids), torch.from_numpy(attention_mask))
    graph = fused.model.graph
    types = [one.type.tensor_type.elem_type for one in (*graph.input, *graph.output)]

    assert sum(node.op_type == ATTENTION for node in graph.node) == LAYERS
    assert types == [TensorProto.INT64] * 2 + [TensorProto.FLOAT] * 2
    assert found.dtype == np.float32
    difference = np.abs(found - torch.cat(expected, dim=1).numpy()).max()
    assert 0 < difference < FP16_TOLERANCE


@pytest.mark.parametrize("kind", NOT_FUSED)
def test_an_encoder_that_is_not_recognised_is_refused(
    kind: str, tmp_path: Path, tokenizer: Tokenizer
) -> None:
    """Half a fusion would be slow on CUDA, so there is none."""
    graph = trace_graph(model_of(tmp_path, kind, tokenizer).joint(("a", "b")))

    with pytest.raises(ExportError, match="attention was fused in 0 of 2 layers"):
        fuse(graph, layers=LAYERS)


def test_one_layer_that_is_not_fused_is_refused(trained: Path) -> None:
    """The count must be that of the encoder."""
    graph = trace_graph(Checkpoint.open(trained).model.joint(GROUP))

    with pytest.raises(ExportError, match="attention was fused in 2 of 3 layers"):
        fuse(graph, layers=3)


def test_the_encoder_is_in_fp16_and_the_heads_are_not(trained: Path) -> None:
    """Weights of heads are as they were trained; fusing again gives the same bytes."""
    graph = trace_graph(Checkpoint.open(trained).model.joint(GROUP))
    fused = fuse(graph, layers=LAYERS).model
    kinds = {one.name: one.data_type for one in fused.graph.initializer}
    heads = [node for node in fused.graph.node if node.name.startswith(HEADS)]
    read = {name for node in heads for name in node.input}

    assert kinds["encoder.embeddings.word_embeddings.weight"] == TensorProto.FLOAT16
    assert {kinds[name] for name in read & kinds.keys()} <= {TensorProto.FLOAT, TensorProto.INT64}
    assert any(name.startswith("heads.") for name in read)
    again = fuse(graph, layers=LAYERS).model
    assert fused.SerializeToString() == again.SerializeToString()


def test_files_of_fp16_are_listed_first_and_describe_themselves(halved: Path) -> None:
    """What passed, against what, and on which device it was measured."""
    bundle = Bundle.open(halved)
    for task in (*GROUP, "entity_framing"):
        assert dict(bundle.precisions(task)) == {
            "fp16": f"{task}.fp16.onnx",
            "fp32": f"{task}.onnx",
        }
        assert next(iter(bundle.precisions(task))) == "fp16"
        about = metadata_of(bundle, task)
        assert about.precision == "fp16"
        assert about.cost is not None
        assert about.cost.device == "cpu"
        assert gate(about.cost) is None
        assert about.metrics.verification.logit_tolerance == FP16_TOLERANCE
        assert 0 < about.metrics.verification.max_logit_difference < FP16_TOLERANCE
    assert dict(bundle.precisions(GROUP))["fp16"] == "shared-roles.fp16.onnx"


def test_a_reader_of_the_file_is_told_where_it_was_measured(halved: Path) -> None:
    """`inspect` shows the precision, its tolerance, and the kind of device."""
    result = CliRunner().invoke(main, ["inspect", str(halved / "narrative.fp16.onnx")])

    assert "precision: fp16" in result.output
    assert "measured on a CPU: labels of 0.00% of the texts differ" in result.output
    assert "(tolerance 5e-02)" in result.output


def metadata_of(bundle: Bundle, task: str) -> ArtefactMetadata:
    """What the fp16 file of a task says of itself."""
    cpu = choose_device("cpu")
    _, (metadata,) = open_session(bundle, task, cpu, precision="fp16")
    return metadata


def test_joint_and_cut_files_have_the_same_bits(halved: Path) -> None:
    """Both are of one fused graph."""
    bundle, device = Bundle.open(halved), choose_device("cpu")
    texts = [ModelText(text, cut=False) for text in ("Aid is wasted.", "Talks now, or war. " * 9)]
    joint = open_scorer(bundle, GROUP, device, precision="fp16")
    alone = [open_scorer(bundle, task, device, precision="fp16") for task in GROUP]
    together = joint.runner.logits(joint.runner.tokenize(texts))
    apart = [scorer.runner.logits(scorer.runner.tokenize(texts)) for scorer in alone]

    assert np.array_equal(together, np.concatenate(apart, axis=1))


def test_a_cpu_is_refused_and_auto_passes_over_fp16(halved: Path) -> None:
    """A CPU would compute it in fp32; CUDA takes it, and takes nothing that is for a CPU."""
    bundle, cpu = Bundle.open(halved), choose_device("cpu")

    with pytest.raises(DeviceError, match="--precision fp16 is not available: it is for CUDA"):
        choose_precision(bundle, GROUP, cpu, "fp16")
    assert choose_precision(bundle, GROUP, cpu, "auto") == "fp32"
    assert choose_precision(bundle, GROUP, CUDA, "auto") == "fp16"
    assert choose_precision(bundle, "narrative", CUDA, "fp16") == "fp16"


def test_verify_says_what_cannot_be_checked_here(halved: Path) -> None:
    """Hash, metadata and external data are checked; that scores are not is told."""
    result = CliRunner().invoke(main, ["verify", str(halved)])
    (line,) = [row for row in result.output.splitlines() if "narrative.fp16.onnx" in row]

    assert result.exit_code == 0, result.output
    assert line.startswith("note")
    assert "is one file with valid metadata; its scores cannot be checked here" in line


def test_recalibrating_without_cuda_fits_fp16_on_the_cpu(halved: Path, tmp_path: Path) -> None:
    """It says so, and what torch said at the export is kept."""
    rows = Path(__file__).parents[3] / "samples" / "articles.parquet"
    words = ["recalibrate", str(halved), "--task", "narrative", "--data", str(rows)]
    words += ["--labels-column", "narratives", "--output", str(tmp_path / "new")]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 0, result.output
    before, after = (
        metadata_of(Bundle.open(folder), "narrative") for folder in (halved, tmp_path / "new")
    )

    assert after.recalibration is not None
    assert after.calibration != before.calibration
    assert after.metrics.verification == before.metrics.verification
    assert after.cost is not None
    assert after.cost.device == "cpu"


@pytest.mark.parametrize(
    ("tolerance", "layers", "message"),
    [(1e-9, LAYERS, "differs from torch by"), (FP16_TOLERANCE, 5, "fused in 2 of 5 layers")],
    ids=["too far from torch", "not fused"],
)
def test_what_does_not_hold_is_left_out(
    checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    tolerance: float,
    layers: int,
    message: str,
) -> None:
    """The export goes on in fp32, says why, and leaves no file behind."""
    monkeypatch.setattr(reduce, "FP16_TOLERANCE", tolerance)
    monkeypatch.setattr(
        reduce, "fuse", lambda graph, layers, found=layers: fuse(graph, layers=found)
    )
    with caplog.at_level(logging.INFO):
        result = export(checkpoint, tmp_path / "bundle")

    assert result.exit_code == 0, result.output
    assert list(Bundle.open(tmp_path / "bundle").precisions("narrative")) == ["fp32"]
    assert not list((tmp_path / "bundle").glob("*.fp16.onnx"))
    assert "fp16: left out: " in caplog.text
    assert message in caplog.text


def test_fp16_is_made_unasked_where_cuda_works(monkeypatch: pytest.MonkeyPatch) -> None:
    """And checked there; elsewhere only on request, and by the CPU."""
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
    plain = open_scorer(bundle, "narrative", choose_device("cpu"), precision="fp32").runner
    cuda = choose_device("cuda")
    # Batches of few texts, so that there are many of them one after the other.
    runner = open_scorer(
        bundle, "narrative", cuda, precision=precision, tokens_per_batch=512
    ).runner
    found = runner.logits(texts)

    assert 0 < np.abs(found - plain.logits(texts)).max() < tolerance
    for _ in range(5):
        assert np.array_equal(runner.logits(texts), found)
    for way, logits in rearranged(runner, texts).items():
        assert np.array_equal(logits, found), way
