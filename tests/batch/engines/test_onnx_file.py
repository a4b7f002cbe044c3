"""External data: a graph that refers to another file is refused before it is opened."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st
from onnx import GraphProto, ModelProto, TensorProto, helper, numpy_helper

from batch.engines.onnx_file import check_onnx
from exporter.cli import main
from schemas.errors import BundleError
from tests.strategies import STEADY

Command = Callable[..., Result]

PAYLOAD = 64 * b"\0"


def outside(name: str = "weights") -> TensorProto:
    """A tensor with external data."""
    tensor = numpy_helper.from_array(np.zeros(4, np.float32), name)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="elsewhere.bin")
    return tensor


def graph(*nodes: onnx.NodeProto, initializer: tuple[TensorProto, ...] = ()) -> GraphProto:
    """A graph with one output."""
    shown = helper.make_tensor_value_info("out", TensorProto.FLOAT, [4])
    return helper.make_graph(list(nodes), "graph", [], [shown], list(initializer))


def as_initializer() -> ModelProto:
    """As a weight."""
    return helper.make_model(
        graph(helper.make_node("Identity", ["weights"], ["out"]), initializer=(outside(),))
    )


def as_attribute() -> ModelProto:
    """As the value of a Constant."""
    return helper.make_model(graph(helper.make_node("Constant", [], ["out"], value=outside())))


def as_attribute_list() -> ModelProto:
    """As one of several tensors of an attribute."""
    node = helper.make_node("Custom", [], ["out"], values=[numpy_helper.from_array(np.ones(1))])
    node.attribute[0].tensors.append(outside())
    return helper.make_model(graph(node))


def in_a_branch() -> ModelProto:
    """In the sub-graph of an If inside the sub-graph of another."""
    branch = graph(helper.make_node("Identity", ["w"], ["out"]), initializer=(outside("w"),))
    plain = graph(helper.make_node("Identity", ["c"], ["out"]))
    for _ in range(2):
        node = helper.make_node("If", ["c"], ["out"], then_branch=plain, else_branch=branch)
        branch = graph(node)
    return helper.make_model(branch)


def as_sparse_values() -> ModelProto:
    """As the values of a sparse initializer."""
    model = helper.make_model(graph(helper.make_node("Identity", ["weights"], ["out"])))
    sparse = model.graph.sparse_initializer.add(dims=[8])
    sparse.values.CopyFrom(outside())
    return model


def in_a_function() -> ModelProto:
    """In a node of a function of the model."""
    model = helper.make_model(graph(helper.make_node("Ours", [], ["out"], domain="ours")))
    node = helper.make_node("Constant", [], ["y"], value=outside())
    model.functions.append(helper.make_function("ours", "Ours", [], ["y"], [node], []))
    return model


def in_training() -> ModelProto:
    """In the graph that initializes training."""
    model = helper.make_model(graph(helper.make_node("Identity", ["w"], ["out"])))
    model.training_info.add().initialization.CopyFrom(graph(initializer=(outside(),)))
    return model


def without_location() -> ModelProto:
    """With the location "external", but without a file name."""
    model = as_initializer()
    del model.graph.initializer[0].external_data[:]
    return model


def by_name_only() -> ModelProto:
    """With a file name, but without the location "external"."""
    model = as_initializer()
    model.graph.initializer[0].ClearField("data_location")
    return model


HIDING_PLACES = [
    as_initializer,
    as_attribute,
    as_attribute_list,
    in_a_branch,
    as_sparse_values,
    in_a_function,
    in_training,
    without_location,
    by_name_only,
]


@pytest.mark.parametrize("make", HIDING_PLACES, ids=lambda make: make.__name__)
def test_external_data_is_detected_in_every_position(make: Callable[[], ModelProto]) -> None:
    """Initializers, attributes, sub-graphs, sparse tensors, functions and training graphs."""
    with pytest.raises(BundleError, match=r"graph\.onnx: tensor .* is in another file"):
        check_onnx(make().SerializeToString(), "graph.onnx")


@pytest.mark.parametrize("make", HIDING_PLACES, ids=lambda make: make.__name__)
def test_external_data_in_a_repeated_field_is_detected(make: Callable[[], ModelProto]) -> None:
    """Protobuf merges repeated fields: a second, harmless graph does not hide the first."""
    harmless = helper.make_model(graph(helper.make_node("Identity", ["a"], ["b"])))
    content = make().SerializeToString() + harmless.SerializeToString()

    with pytest.raises(BundleError, match="is in another file"):
        check_onnx(content, "graph.onnx")


def test_an_exported_graph_passes(bundle: Path) -> None:
    """Exported graphs have no external data."""
    check_onnx((bundle / "narrative.onnx").read_bytes(), "narrative.onnx")


@given(
    cut=st.integers(0, 400), changes=st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)))
)
@STEADY
def test_damaged_bytes_never_pass_with_external_data(
    cut: int, changes: list[tuple[int, int]]
) -> None:
    """Files with external data by protobuf's own reader are refused, with BundleError only."""
    raw = bytearray(in_a_branch().SerializeToString()[: cut or None])
    for place, value in changes:
        raw[place % len(raw)] = value
    try:
        check_onnx(bytes(raw), "graph.onnx")
    except BundleError:
        return
    try:
        model = onnx.load_model_from_string(bytes(raw))
    except Exception:  # whatever protobuf raises: nothing that an engine could open
        return

    assert not [tensor for tensor in _tensors(model) if tensor.external_data]


def _tensors(message: Any) -> list[Any]:
    """Every tensor of a parsed message, by walking all of its fields."""
    if message.DESCRIPTOR.name == "TensorProto":
        return [message]
    found = []
    for field, value in message.ListFields():
        if field.message_type is not None:
            values = value if isinstance(value, list) or hasattr(value, "add") else [value]
            found += [tensor for one in values for tensor in _tensors(one)]
    return found


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not a graph",
        b"{}\n",
        b"\xff" * 12,
        b"\x3a\x7f\x0a",
        b"\x00\x00",
        b"\x0b",
        b"\x3a\x02\x0a\x00" * 3 + b"\x3a",
    ],
)
def test_a_file_that_is_not_onnx_is_refused(content: bytes) -> None:
    """Truncated, empty and foreign files have a clear error."""
    with pytest.raises(BundleError, match=r"graph\.onnx: not an ONNX file"):
        check_onnx(content, "graph.onnx")


def test_deep_nesting_is_refused() -> None:
    """A graph in a graph in a graph, deeper than protobuf's own readers allow."""
    inner = b""
    for _ in range(60):  # Graph.node.attribute.g
        for number in (6, 5, 1):
            inner = bytes([number << 3 | 2]) + _length(inner) + inner
    model = b"\x08\x08\x42\x00\x3a" + _length(inner) + inner  # ir_version, opset_import, graph

    with pytest.raises(BundleError, match="more than 100 levels deep"):
        check_onnx(model, "graph.onnx")


def _length(content: bytes) -> bytes:
    """A length as a varint of one or two bytes."""
    size = len(content)
    return bytes([size]) if size < 128 else bytes([size & 0x7F | 0x80, size >> 7])


def test_neither_scoring_nor_inspection_opens_external_data(
    edit_bundle: Callable[..., Path],
    bundle: Path,
    batch_classify: Command,
    write: Callable[..., Path],
    tmp_path: Path,
) -> None:
    """Even if the hash of the graph is in the manifest and the other file exists."""
    model = onnx.load(bundle / "narrative.onnx")
    onnx.save_model(
        model,
        tmp_path / "narrative.onnx",
        save_as_external_data=True,
        location="weights.bin",
        size_threshold=0,
    )
    edited = edit_bundle(narrative_onnx=(tmp_path / "narrative.onnx").read_bytes())
    (edited / "weights.bin").write_bytes((tmp_path / "weights.bin").read_bytes())
    scored = batch_classify(write({"text": ["a"]}), bundle=edited, output=tmp_path / "scored")
    inspected = CliRunner().invoke(main, ["inspect", str(edited / "narrative.onnx")])

    for result in (scored, inspected):
        assert result.exit_code == 1
        assert "is in another file (external data)" in result.output
        assert "Traceback" not in result.output
