"""What a graph promises, for every encoder type that export is promised for."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto
from tokenizers import Tokenizer

from batch.engines.graph_file import GraphFile
from batch.engines.openvino import openvino_problem
from batch.machine.device import Device
from batch.scoring.session import OpenGraph, TaskSession, output_in_graph
from exporter.graph.trace import OPSET, trace_graph
from schemas.arrays import Float32Array
from schemas.bundle.folder import BundleFiles
from schemas.bundle.variants import Precision
from schemas.errors import ExportError
from schemas.kinds import KINDS
from schemas.kinds.base import OutputSpec
from tests.label_tasks import KIND
from tests.tiny import SIZES, make_encoder
from trainer.model.encoders import load_encoder
from trainer.model.heads import make_heads
from trainer.model.multitask import MultiTaskModel, TaskPath

# transformers compiles parts of some encoders with a function that torch is about to retire.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")

TOLERANCE = 1e-5
SHAPES = [(1, 1), (1, 2), (2, 7), (3, 33), (5, 64), (2, 100), (1, 128)]
LABELS = {"other": tuple("abcdefg"), "topics": ("x", "y", "z")}
"""Labels of two tasks that read the same text."""
TOPICS = len(LABELS["topics"])


def outputs_of(*tasks: str) -> dict[str, OutputSpec]:
    """Output of each task, as the file of this task alone has it."""
    return {task: KINDS[KIND].output(len(LABELS[task])) for task in tasks}


@pytest.fixture(scope="module", params=sorted(SIZES))
def exported(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, tokenizer: Tokenizer
) -> tuple[TaskPath, Path]:
    """The torch path of one task of a tiny model of one type, and its graph beside those of the
    group.
    """
    folder = tmp_path_factory.mktemp(request.param)
    encoder = make_encoder(folder, request.param, tokenizer=tokenizer)
    torch.manual_seed(1)
    loaded = load_encoder(str(encoder), markers=True).model
    heads = make_heads(
        loaded,
        {task: len(labels) for task, labels in LABELS.items()},
        heads={"topics": "label_attention"},
        dropout=0.5,
    )
    model = MultiTaskModel(loaded, heads).eval()
    files = BundleFiles(tmp_path_factory.mktemp(f"{request.param}-graph"))
    trace_graph(model.joint(["other", "topics"]), outputs_of("other", "topics")).write(files)
    return model.path("topics"), files.onnx("topics")


def open_graph(graph: Path) -> onnxruntime.InferenceSession:
    """Open a graph on the CPU."""
    return onnxruntime.InferenceSession(str(graph), providers=["CPUExecutionProvider"])


def padded(rows: int, seq: int) -> dict[str, np.ndarray]:
    """Random ids; the first row is full, the others are padded by more and more."""
    rng = np.random.default_rng(rows * 1000 + seq)
    input_ids = rng.integers(5, 700, size=(rows, seq))
    attention_mask = np.ones((rows, seq), dtype=np.int64)
    for row in range(1, rows):
        length = max(1, seq - row * max(1, seq // (rows + 1)))
        attention_mask[row, length:] = 0
        input_ids[row, length:] = 0
    return {"input_ids": input_ids, "attention_mask": attention_mask}


def test_graph_equals_torch(exported: tuple[TaskPath, Path]) -> None:
    """Over many shapes, with padding and without, logits are those of torch."""
    path_model, graph = exported
    session = open_graph(graph)

    for shape in SHAPES:
        feeds = padded(*shape)
        (logits,) = session.run(["logits"], feeds)
        with torch.inference_mode():
            expected = path_model(*(torch.from_numpy(array) for array in feeds.values())).numpy()
        assert logits.shape == (shape[0], TOPICS)
        np.testing.assert_allclose(logits, expected, rtol=0, atol=TOLERANCE, err_msg=str(shape))


def test_logits_of_different_texts_differ(exported: tuple[TaskPath, Path]) -> None:
    """The comparison means something: different rows have clearly different logits."""
    (logits,) = open_graph(exported[1]).run(["logits"], padded(5, 64))

    assert np.abs(np.diff(logits, axis=0)).max() > 100 * TOLERANCE


def test_inputs_and_output_are_those_of_the_contract(exported: tuple[TaskPath, Path]) -> None:
    """Names, types and dynamic axes: int64 (rows, seq) in, float32 (rows, labels) out."""
    session = open_graph(exported[1])

    inputs = [(entry.name, entry.type, entry.shape) for entry in session.get_inputs()]
    outputs = [(entry.name, entry.type, entry.shape) for entry in session.get_outputs()]
    assert inputs == [
        ("input_ids", "tensor(int64)", ["rows", "seq"]),
        ("attention_mask", "tensor(int64)", ["rows", "seq"]),
    ]
    assert outputs == [("logits", "tensor(float)", ["rows", TOPICS])]


def test_opset_is_new_enough(exported: tuple[TaskPath, Path]) -> None:
    """The graph is of opset 17 or newer, and uses standard operators only."""
    opsets = {entry.domain: entry.version for entry in onnx.load(exported[1]).opset_import}

    assert opsets[""] >= OPSET >= 17
    assert set(opsets) == {""}


def test_file_stands_alone(exported: tuple[TaskPath, Path]) -> None:
    """Weights are inside the file; nothing lies beside it but other graphs of the group."""
    _, graph = exported
    model = onnx.load(graph, load_external_data=False)

    assert sorted(path.name for path in graph.parent.iterdir()) == [
        "other.onnx",
        "shared-other.onnx",
        "topics.onnx",
    ]
    locations = {tensor.data_location for tensor in model.graph.initializer}
    assert locations == {TensorProto.DEFAULT}


def test_other_heads_are_left_out(exported: tuple[TaskPath, Path]) -> None:
    """A graph has the weights of its own head, and not those of other tasks."""
    shapes = {tuple(tensor.dims) for tensor in onnx.load(exported[1]).graph.initializer}
    hidden = exported[0].config.hidden_size

    other = len(LABELS["other"])
    assert {(TOPICS,)} <= shapes
    assert not {(other,), (other, hidden), (hidden, other)} & shapes


def precisions_here(model_type: str) -> list[Precision]:
    """Those that this machine can run a graph of a type in; OpenVINO refuses one of deberta's
    operators.
    """
    reduced = openvino_problem("bf16") is None and model_type != "deberta-v2"
    return ["fp32", "bf16"] if reduced else ["fp32"]


def open_in(graph: Path, precision: Precision) -> OpenGraph:
    """Open a graph on the CPU with one thread."""
    cpu = Device("cpu", 0, "test")
    return OpenGraph.open(GraphFile.of_path(graph), cpu, precision=precision, threads=1)


def bits(arrays: Sequence[Float32Array]) -> list[bytes]:
    """Content of each array."""
    return [array.tobytes() for array in arrays]


def test_shared_graph_gives_the_same_bits(exported: tuple[TaskPath, Path]) -> None:
    """A task's logits do not depend on whether other heads run over the same encoder."""
    path_model, graph = exported
    of_shared = {
        task: output_in_graph(output, task, tasks=2) for task, output in outputs_of(*LABELS).items()
    }

    for precision in precisions_here(path_model.config.model_type):
        shared = open_in(graph.with_name("shared-other.onnx"), precision)
        together = TaskSession(shared, of_shared)
        picked = TaskSession(shared, {"topics": of_shared["topics"]})
        alone = [
            TaskSession(open_in(graph.with_name(f"{task}.onnx"), precision), outputs_of(task))
            for task in LABELS
        ]
        for shape in [(64, 32), (31, 64), (16, 128)]:
            feeds = padded(*shape).values()
            expected = [array for session in alone for array in session.run(*feeds)]
            assert [array.shape for array in expected] == [
                (shape[0], len(labels)) for labels in LABELS.values()
            ]
            assert bits(together.run(*feeds)) == bits(expected)
            assert bits(picked.run(*feeds)) == bits(expected[1:])


def test_group_of_one_has_no_shared_file(encoder: Path, tmp_path: Path) -> None:
    """A task that reads a text of its own has its file and nothing beside it."""
    loaded = load_encoder(str(encoder), markers=False).model
    model = MultiTaskModel(loaded, make_heads(loaded, {"topics": TOPICS})).eval()
    trace_graph(model.joint(["topics"]), outputs_of("topics")).write(BundleFiles(tmp_path))

    assert [path.name for path in tmp_path.iterdir()] == ["topics.onnx"]


def test_padding_does_not_change_a_row(exported: tuple[TaskPath, Path]) -> None:
    """More padding to the right leaves a row's logits within the tolerance."""
    session = open_graph(exported[1])
    row = padded(1, 20)
    wide = {name: np.pad(array, ((0, 0), (0, 30))) for name, array in row.items()}

    narrow_logits, wide_logits = (session.run(["logits"], feeds)[0] for feeds in (row, wide))
    np.testing.assert_allclose(wide_logits, narrow_logits, rtol=0, atol=TOLERANCE)


def test_unknown_type_is_refused(encoder: Path) -> None:
    """The message names a type without an ONNX configuration, and those that are known to work."""
    loaded = load_encoder(str(encoder), markers=False).model
    path_model = MultiTaskModel(loaded, make_heads(loaded, {"topics": TOPICS})).joint(["topics"])
    path_model.config.model_type = "funnel-of-tomorrow"

    with pytest.raises(ExportError, match="'funnel-of-tomorrow' cannot be exported") as caught:
        trace_graph(path_model, outputs_of("topics"))
    assert all(name in str(caught.value) for name in SIZES)
