"""What a graph promises, for every encoder type that export is promised for."""

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
from batch.scoring.session import TaskSession
from exporter.graph.trace import OPSET, trace_graph
from schemas.bundle.folder import BundleFiles
from schemas.bundle.variants import Precision
from schemas.errors import ExportError
from tests.tiny import SIZES, make_encoder
from trainer.model.encoders import load_encoder
from trainer.model.multitask import MultiTaskModel, TaskPath

# transformers compiles parts of some encoders with a function that torch is about to retire.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")

TOLERANCE = 1e-5
SHAPES = [(1, 1), (1, 2), (2, 7), (3, 33), (5, 64), (2, 100), (1, 128)]
LABELS = 3


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
    model = MultiTaskModel(
        load_encoder(str(encoder), markers=True).model,
        {"other": 7, "topics": LABELS},
        heads={"topics": "label_attention"},
        dropout=0.5,
    ).eval()
    files = BundleFiles(tmp_path_factory.mktemp(f"{request.param}-graph"))
    trace_graph(model.joint(["other", "topics"])).write(files)
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
        (found,) = session.run(["logits"], feeds)
        with torch.inference_mode():
            expected = path_model(*(torch.from_numpy(array) for array in feeds.values())).numpy()
        assert found.shape == (shape[0], LABELS)
        np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE, err_msg=str(shape))


def test_logits_tell_texts_apart(exported: tuple[TaskPath, Path]) -> None:
    """The comparison means something: different rows have clearly different logits."""
    (found,) = open_graph(exported[1]).run(["logits"], padded(5, 64))

    assert np.abs(np.diff(found, axis=0)).max() > 100 * TOLERANCE


def test_inputs_and_output_are_those_of_the_contract(exported: tuple[TaskPath, Path]) -> None:
    """Names, types and dynamic axes: int64 (rows, seq) in, float32 (rows, labels) out."""
    session = open_graph(exported[1])

    inputs = [(entry.name, entry.type, entry.shape) for entry in session.get_inputs()]
    outputs = [(entry.name, entry.type, entry.shape) for entry in session.get_outputs()]
    assert inputs == [
        ("input_ids", "tensor(int64)", ["rows", "seq"]),
        ("attention_mask", "tensor(int64)", ["rows", "seq"]),
    ]
    assert outputs == [("logits", "tensor(float)", ["rows", LABELS])]


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

    assert {(LABELS,)} <= shapes
    assert not {(7,), (7, hidden), (hidden, 7)} & shapes


def precisions_here(model_type: str) -> list[Precision]:
    """Those that this machine can run a graph of a type in; OpenVINO refuses one of deberta's
    operators.
    """
    reduced = openvino_problem("bf16") is None and model_type != "deberta-v2"
    return ["fp32", "bf16"] if reduced else ["fp32"]


def test_shared_graph_gives_the_same_bits(exported: tuple[TaskPath, Path]) -> None:
    """A task's logits do not depend on whether other heads run over the same encoder."""
    path_model, graph = exported
    cpu, names, labels = Device("cpu", 0, "test"), ("other", "topics"), {"other": 7, "topics": 3}

    for precision in precisions_here(path_model.config.model_type):
        shared = GraphFile.of_path(graph.with_name("shared-other.onnx"))
        together = TaskSession(shared, cpu, threads=1, precision=precision, tasks=names)
        alone = [
            TaskSession(GraphFile.of_path(path), cpu, threads=1, precision=precision)
            for path in (graph.with_name(f"{task}.onnx") for task in names)
        ]
        picked = TaskSession(shared, cpu, threads=1, precision=precision, tasks=("topics",))
        for shape in [(64, 32), (31, 64), (16, 128)]:
            feeds = padded(*shape).values()
            found = np.concatenate([session.run(*feeds) for session in alone], axis=1)
            assert found.shape == (shape[0], sum(labels.values()))
            assert together.run(*feeds).tobytes() == found.tobytes()
            assert picked.run(*feeds).tobytes() == alone[1].run(*feeds).tobytes()


def test_group_of_one_has_no_shared_file(encoder: Path, tmp_path: Path) -> None:
    """A task that reads a text of its own has its file and nothing beside it."""
    model = MultiTaskModel(load_encoder(str(encoder), markers=False).model, {"a": 2}).eval()
    trace_graph(model.joint(["a"])).write(BundleFiles(tmp_path))

    assert [path.name for path in tmp_path.iterdir()] == ["a.onnx"]


def test_padding_does_not_change_a_row(exported: tuple[TaskPath, Path]) -> None:
    """More padding to the right leaves a row's logits within the tolerance."""
    session = open_graph(exported[1])
    row = padded(1, 20)
    wide = {name: np.pad(array, ((0, 0), (0, 30))) for name, array in row.items()}

    narrow_logits, wide_logits = (session.run(["logits"], feeds)[0] for feeds in (row, wide))
    np.testing.assert_allclose(wide_logits, narrow_logits, rtol=0, atol=TOLERANCE)


def test_unknown_type_is_refused(encoder: Path) -> None:
    """A type without an ONNX configuration is told, with the types that are known to work."""
    path_model = MultiTaskModel(load_encoder(str(encoder), markers=False).model, {"a": 1}).joint(
        ["a"]
    )
    path_model.config.model_type = "funnel-of-tomorrow"

    with pytest.raises(ExportError, match="'funnel-of-tomorrow' cannot be exported") as caught:
        trace_graph(path_model)
    assert all(name in str(caught.value) for name in SIZES)
