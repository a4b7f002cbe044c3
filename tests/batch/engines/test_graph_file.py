"""Engines get exactly the bytes that were checked, as ONNX, and never a path."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import openvino
import pytest
from click.testing import Result
from onnx import helper
from openvino import opset13

from batch.engines import open_engine, usable_engines
from batch.engines.graph_file import GraphFile
from batch.engines.onnx_file import check_onnx
from batch.machine.device import Device
from batch.scoring.session import open_session
from exporter.bundle.inspection import read_metadata
from exporter.graph.trace import embed_metadata
from schemas.bundle.folder import Bundle
from schemas.bundle.variants import EngineName
from schemas.errors import BundleError
from schemas.io.files import FileFacts
from tests.exporting import export_classifier

Command = Callable[..., Result]

CPU = Device("cpu", 0, "test")
TEXTS = {"text": ["Aid is wasted by officials."]}
SKIPPED = 0x43 | 0x29 << 7 | 0x20 << 14
"""The protobuf length that the UTF-8 text "CC)" of b"\\xc3\\xa9\\x20" spells."""


@pytest.fixture(scope="module")
def ir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An OpenVINO IR with the inputs and the output of our graphs, beside its weights file."""
    ids, mask = (
        opset13.parameter([-1, -1], np.int64, name=name) for name in ("input_ids", "attention_mask")
    )
    for node in (ids, mask):
        node.output(0).get_tensor().set_names({node.get_friendly_name()})
    sums = opset13.reduce_sum(
        opset13.convert(opset13.multiply(ids, mask), "f32"), np.array([1]), keep_dims=True
    )
    weights = opset13.constant(np.arange(17, dtype=np.float32).reshape(1, 17))
    logits = opset13.multiply(sums, weights)
    logits.output(0).get_tensor().set_names({"logits"})
    path = tmp_path_factory.mktemp("ir") / "narrative.xml"
    openvino.save_model(openvino.Model([logits], [ids, mask], "ir"), path, compress_to_fp16=False)
    return path


def as_protobuf(xml: bytes, model: bytes = b"") -> bytes:
    """An IR that is also a protobuf message: fields 1 and 15 contain all bytes outside `model`."""
    comment = b"\n<!--".ljust(2 + ord("<"))
    skipped = b"-->" + xml.removeprefix(b'<?xml version="1.0"?>')
    return comment + model + b"z\xc3\xa9\x20" + skipped.ljust(SKIPPED, b"\n")


def plain_model() -> bytes:
    """A small ONNX model."""
    ends = [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [1]) for n in ("x", "logits")]
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["logits"])], "g", [ends[0]], ends[1:]
    )
    opsets = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    return bytes(model.SerializeToString())


@pytest.mark.parametrize("start", [b"", b"\n", b"\xef\xbb\xbf"])
def test_an_ir_is_not_onnx(ir: Path, start: bytes) -> None:
    """XML is not a protobuf message, whatever precedes it."""
    with pytest.raises(BundleError, match="not an ONNX file"):
        check_onnx(start + ir.read_bytes(), "narrative.onnx")


def test_an_ir_that_is_protobuf_too_is_not_onnx(ir: Path, tmp_path: Path) -> None:
    """OpenVINO opens it by its path and loads the weights; it has no ONNX graph."""
    content = as_protobuf(ir.read_bytes())
    (tmp_path / "narrative.onnx").write_bytes(content)
    shutil.copyfile(ir.with_suffix(".bin"), tmp_path / "narrative.bin")

    assert openvino.Core().read_model(tmp_path / "narrative.onnx").outputs
    with pytest.raises(BundleError, match="not an ONNX file: it has no ir_version"):
        check_onnx(content, "narrative.onnx")


@pytest.mark.parametrize("engine", usable_engines("fp32", CPU))
def test_engines_run_the_onnx_model_of_a_file_in_two_formats(ir: Path, engine: EngineName) -> None:
    """They run the ONNX model that was checked, not the IR around it."""
    content = as_protobuf(ir.read_bytes(), plain_model())
    graph = GraphFile("narrative.onnx", "narrative.onnx", lambda: content)
    session = open_engine(graph, CPU, engine, precision="fp32", threads=1)

    assert session.columns == {"logits": 1}


def test_scoring_refuses_an_ir_and_does_not_load_its_weights(
    ir: Path,
    edit_bundle: Callable[..., Path],
    batch_classify: Command,
    write: Callable[..., Path],
    tmp_path: Path,
) -> None:
    """It is listed with its hash as `narrative.onnx`; its `.bin` is not listed."""
    edited = edit_bundle(narrative_onnx=as_protobuf(ir.read_bytes()))
    shutil.copyfile(ir.with_suffix(".bin"), edited / "narrative.bin")
    scored = batch_classify(write(TEXTS), bundle=edited, output=tmp_path / "scored")
    verified = export_classifier("verify", edited)

    for result in (scored, verified):
        assert result.exit_code == 1
        assert "narrative.onnx: not an ONNX file" in result.output
        assert "Traceback" not in result.output


@pytest.mark.parametrize("engine", usable_engines("fp32", CPU))
def test_engines_need_no_file(bundle: Path, engine: EngineName) -> None:
    """Bytes are sufficient, so other files in the folder have no effect."""
    content = (bundle / "narrative.onnx").read_bytes()
    graph = GraphFile("narrative.onnx", "narrative.onnx", lambda: content)
    session = open_engine(graph, CPU, engine, precision="fp32", threads=1)
    ones = np.ones((2, 16), np.int64)

    assert session.run(ones, ones, ["logits"])[0].shape == (2, 17)
    assert session.props


def test_a_file_that_is_replaced_after_the_manifest_was_read_is_refused(
    bundle: Path, tmp_path: Path
) -> None:
    """Even if it is a valid graph: the hash is that of the bytes passed to the engine."""
    ours = Path(shutil.copytree(bundle, tmp_path / "ours"))
    opened = Bundle.open(ours)
    opened.check_all()
    shutil.copyfile(ours / "entity_framing.onnx", ours / "narrative.onnx")

    with pytest.raises(BundleError, match=r"narrative\.onnx: changed since"):
        open_session(opened, ("narrative",), CPU, precision="fp32")


def swap_tasks(bundle: Path, folder: Path) -> Path:
    """A copy whose manifest maps each of two tasks to the file of the other."""
    swapped = Path(shutil.copytree(bundle, folder))
    manifest = json.loads((swapped / "bundle.json").read_text())
    tasks = manifest["tasks"]
    tasks["narrative"], tasks["entity_framing"] = tasks["entity_framing"], tasks["narrative"]
    (swapped / "bundle.json").write_text(json.dumps(manifest))
    return swapped


@pytest.mark.parametrize("command", ["verify", "inspect"])
def test_a_task_that_is_mapped_to_the_file_of_another_is_refused(
    bundle: Path,
    batch_classify: Command,
    write: Callable[..., Path],
    tmp_path: Path,
    command: str,
) -> None:
    """The file records its task; scoring, verify and inspect compare it."""
    swapped = swap_tasks(bundle, tmp_path / "swapped")
    scored = batch_classify(write(TEXTS), bundle=swapped, output=tmp_path / "scored")
    checked = export_classifier(command, swapped)

    for result in (scored, checked):
        assert result.exit_code == 1
        assert "entity_framing.onnx: is listed for task 'narrative'" in result.output
        assert "'entity_framing'" in result.output
        assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("name", "value"), [("pad_id", 7), ("max_tokens", 64), ("tokenizer_sha256", "0" * 64)]
)
def test_tasks_of_one_graph_must_read_the_same_text(
    joint_bundle: Path, tmp_path: Path, name: str, value: object
) -> None:
    """They share batches, so they must be padded and truncated alike."""
    ours = Path(shutil.copytree(joint_bundle, tmp_path / "ours"))
    (shared,) = Bundle.open(ours).manifest.shared
    path = ours / shared.files["fp32"]
    described = read_metadata(GraphFile.of_path(path))
    last = shared.tasks[-1]
    described[last] = described[last].model_copy(update={name: value})
    embed_metadata(path, [described[task] for task in shared.tasks])
    manifest = json.loads((ours / "bundle.json").read_text())
    manifest["files"][path.name] = FileFacts.of(path).model_dump()
    (ours / "bundle.json").write_text(json.dumps(manifest))

    with pytest.raises(BundleError, match=rf"share this graph and differ in {name}"):
        open_session(Bundle.open(ours), shared.tasks, CPU, precision="fp32")
