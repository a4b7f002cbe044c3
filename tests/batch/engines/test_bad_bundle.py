"""Invalid bundles, tasks, devices and gold labels: a clear error before any row is read."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pyarrow as pa
import pytest
from click.testing import Result
from onnx import helper, numpy_helper

from batch.engines.graph_file import GraphFile
from batch.engines.onnxruntime import OnnxruntimeSession
from batch.engines.openvino import OpenvinoSession
from batch.machine.device import Device, installed_engines
from schemas.errors import BundleError

Write = Callable[..., Path]
Refused = Callable[..., str]
Command = Callable[..., Result]

TEXTS = ["Aid is wasted by officials.", "Sanctions hurt us.", "Talks now, or war for ever."]


@pytest.fixture
def copied(bundle: Path, tmp_path: Path) -> Path:
    """A copy of the bundle that a test may damage."""
    return Path(shutil.copytree(bundle, tmp_path / "copied"))


@pytest.fixture
def refused(batch_classify: Command, write: Write, tmp_path: Path) -> Refused:
    """Runs a command that must fail before it writes anything; returns what it says."""

    def refused(
        columns: Any = None, *, exit_code: int = 1, fails_late: bool = False, **options: Any
    ) -> str:
        corpus, output = write(columns or {"text": TEXTS}), tmp_path / "scored"
        result = batch_classify(corpus, output=output, **options)
        assert result.exit_code == exit_code, result.output
        assert "Traceback" not in result.stderr
        assert [path.name for path in output.glob("*/*.parquet")] == []
        assert fails_late or not output.exists()
        return result.stderr

    return refused


def test_an_unknown_task_is_reported_with_the_nearest_name(refused: Refused, bundle: Path) -> None:
    """A usage error, exit 2, that lists the tasks of the bundle."""
    said = refused(task="narative", exit_code=2)

    assert f"unknown task 'narative': {bundle} has 'narrative', 'entity_framing'" in said
    assert "did you mean 'narrative'?" in said


def test_a_missing_bundle_is_reported_with_a_hint(refused: Refused, tmp_path: Path) -> None:
    """The hint names export-classifier and --bundle."""
    said = refused(bundle=tmp_path / "nowhere")

    assert f"{tmp_path / 'nowhere'}: no bundle here" in said
    assert "export-classifier" in said


@pytest.mark.parametrize("name", ["narrative.onnx", "tokenizer.json"])
@pytest.mark.parametrize("damage", ["flipped", "longer", "missing"])
def test_a_changed_bundle_file_is_refused(
    refused: Refused, copied: Path, name: str, damage: str
) -> None:
    """The sha256 detects a single changed byte; the message names the file."""
    path = copied / name
    raw = bytearray(path.read_bytes())
    if damage == "missing":
        path.unlink()
    else:
        raw[len(raw) // 2] ^= 1
        path.write_bytes(bytes(raw) if damage == "flipped" else path.read_bytes() + b"\n")
    said = refused(bundle=copied)

    assert f"{path}: " in said
    assert ("cannot be read" if damage == "missing" else "changed since the bundle was") in said


@pytest.mark.parametrize("token", ["[CLS]", "aid"])
def test_a_token_beyond_int32_is_an_error_of_the_bundle(
    token: str, bundle: Path, edit_bundle: Callable[..., Path], refused: Refused
) -> None:
    """Even if only some texts have the token."""
    tokenizer = json.loads((bundle / "tokenizer.json").read_text(encoding="utf-8"))
    tokenizer["model"]["vocab"][token] = 2**31
    tokenizer["post_processor"]["special_tokens"]["[CLS]"]["ids"] = [2**31 if token < "a" else 2]
    content = json.dumps(tokenizer).encode()
    sha256 = hashlib.sha256(content).hexdigest()
    edited = edit_bundle(tokenizer_json=content, props={"tokenizer_sha256": sha256})

    assert "its tokenizer has an id out of range" in refused(bundle=edited, fails_late=True)


def test_another_tokenizer_is_refused_even_if_the_manifest_matches(
    refused: Refused, edit_bundle: Callable[..., Path], bundle: Path
) -> None:
    """The ONNX file records the tokenizer that it was exported with."""
    tokenizer = json.loads((bundle / "tokenizer.json").read_text(encoding="utf-8"))
    tokenizer["normalizer"]["lowercase"] = False
    edited = edit_bundle(tokenizer_json=json.dumps(tokenizer).encode())
    said = refused(bundle=edited)

    assert "is not the tokenizer that task 'narrative' was exported with" in said


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "not JSON"),
        (b"[]", "a JSON object is expected"),
        (b"{}", "schema_version is None, expected 1"),
        (b'{"schema_version": 2}', "schema_version 2 is newer than 1"),
        (b'{"schema_version": 1, "tasks": {"a b": 1}}', "not a valid manifest"),
        (b"\xff\xfe", "not JSON"),
    ],
    ids=["empty", "list", "no version", "newer", "wrong", "not text"],
)
def test_a_damaged_manifest_is_refused(
    refused: Refused, copied: Path, content: bytes, expected: str
) -> None:
    """The message has the file and the problem."""
    (copied / "bundle.json").write_bytes(content)
    said = refused(bundle=copied)

    assert f"{copied / 'bundle.json'}: {expected}" in said


@pytest.mark.parametrize(
    ("props", "expected"),
    [
        ({"schema_version": 2}, "schema_version 2 is newer than 1"),
        ({"labels": ["one", "two"]}, "thresholds has 17 values for 2 labels"),
        ({"labels": ["same"] * 17}, "labels must differ"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"pad_id": 2**63}, "pad_id"),
        ({"kind": "telepathy"}, "kind"),
    ],
    ids=str,
)
def test_invalid_metadata_is_refused(
    refused: Refused,
    edit_bundle: Callable[..., Path],
    props: dict[str, object],
    expected: str,
) -> None:
    """The metadata of the ONNX file is checked before it is used."""
    said = refused(bundle=edit_bundle(props=props))

    assert "narrative.onnx: " in said
    assert expected in said


def test_a_file_that_is_not_onnx_is_refused(
    refused: Refused, edit_bundle: Callable[..., Path]
) -> None:
    """Even if its hash is in the manifest."""
    assert "narrative.onnx: not an ONNX file" in refused(
        bundle=edit_bundle(narrative_onnx=b"not a graph")
    )


@pytest.mark.parametrize("shape", [[], ["labels"], ["rows", "labels"]], ids=str)
@pytest.mark.parametrize("engine", [OnnxruntimeSession, OpenvinoSession])
def test_a_graph_may_have_a_dynamic_number_of_labels(
    tmp_path: Path, engine: Any, shape: list[str]
) -> None:
    """A scalar or dynamic output has 0 columns, which do not match any metadata."""
    float32 = onnx.TensorProto.FLOAT
    ends = [helper.make_tensor_value_info(name, float32, shape) for name in ("ids", "logits")]
    graph = helper.make_graph(
        [helper.make_node("Relu", ["ids"], ["logits"])], "g", ends[:1], ends[1:]
    )
    path = tmp_path / "narrative.onnx"
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path
    )
    more = {"precision": "fp32"} if engine is OpenvinoSession else {}
    session = engine(GraphFile.of_path(path), Device("cpu", 0, "a test"), threads=1, **more)

    assert session.columns == {"logits": 0}


@pytest.mark.parametrize("engine", [OnnxruntimeSession, OpenvinoSession])
def test_metadata_that_is_not_utf8_is_refused(bundle: Path, tmp_path: Path, engine: Any) -> None:
    """By both engines."""
    raw = (bundle / "narrative.onnx").read_bytes()
    path = tmp_path / "narrative.onnx"
    path.write_bytes(raw.replace(b'"multilabel"', b'"multi\xffabel"', 1))
    more = {"precision": "fp32"} if engine is OpenvinoSession else {}

    with pytest.raises(BundleError, match=r"narrative\.onnx: its metadata is not UTF-8"):
        dict(engine(GraphFile.of_path(path), Device("cpu", 0, "a test"), threads=1, **more).props)


@pytest.mark.parametrize(
    ("operation", "constant", "expected"),
    [
        ("Add", np.float32("nan"), "outputs of 'narrative' are not finite numbers"),
        ("Reshape", np.array([17, -1], np.int64), "the graph has 0 outputs and its metadata 17"),
    ],
)
def test_invalid_logits_are_refused(
    refused: Refused,
    edit_bundle: Callable[..., Path],
    bundle: Path,
    operation: str,
    constant: Any,
    expected: str,
) -> None:
    """A graph whose output contradicts its metadata; the message names the file."""
    model = onnx.load(bundle / "narrative.onnx")
    for node in model.graph.node:
        node.output[:] = ["inner" if name == "logits" else name for name in node.output]
    model.graph.initializer.append(numpy_helper.from_array(np.asarray(constant), "constant"))
    model.graph.node.append(helper.make_node(operation, ["inner", "constant"], ["logits"]))
    edited = edit_bundle(narrative_onnx=model.SerializeToString())
    said = refused(bundle=edited, max_tokens_per_batch=128, fails_late=True)

    assert f"{edited / 'narrative.onnx'}: {expected}" in said


@pytest.mark.parametrize("device", ["tpu", "CPU", "cuda:", "cuda:-1", "cpu:0", "", "gpu"])
def test_an_unknown_device_is_a_usage_error(refused: Refused, device: str) -> None:
    """Exit 2, with the valid values."""
    said = refused(device=device, exit_code=2)

    assert f"--device {device!r}: expected auto, cpu, cuda or cuda:N" in said


@pytest.mark.parametrize("device", ["cuda", "cuda:7"])
def test_missing_cuda_is_an_error_that_names_the_cause(refused: Refused, device: str) -> None:
    """There is no silent fallback to the CPU. No test machine has a device 7."""
    if device == "cuda" and "onnxruntime-gpu" in installed_engines():
        device = "cuda:7"
    said = refused(device=device)

    assert f"--device {device}: CUDA is not available: " in said
    assert "onnxruntime-gpu" in said or "driver" in said or "library" in said


def test_a_precision_that_the_bundle_lacks_is_a_usage_error(refused: Refused) -> None:
    """Exit 2, with the precisions of the bundle."""
    assert "has task 'narrative' in 'fp32' only" in refused(precision="int8", exit_code=2)


@pytest.mark.parametrize(
    "options",
    [{"chunk_rows": 0}, {"threads": -1}, {"max_quarantined": 1.5}, {"max_quarantined": "many"},
     {"deadline": "soon"}, {"deadline": "-1s"}, {"log_format": "xml"}, {"nonsense": True}],
    ids=str,
)  # fmt: skip
def test_invalid_options_are_usage_errors(refused: Refused, options: dict[str, Any]) -> None:
    """Exit 2 for values out of range and for unknown options."""
    (name,) = options

    assert "--" + name.replace("_", "-") in refused(exit_code=2, **options)


@pytest.mark.parametrize(
    "gold",
    [
        [["Other"], ["Othr"], []],
        ["Other", "Othr", None],
        pa.array([[b"Other"], [b"Othr"], None]),
        pa.array(["Other", "Othr", None]).dictionary_encode(),
    ],
    ids=["lists", "single", "bytes", "dictionary"],
)
def test_an_unknown_gold_label_is_refused(refused: Refused, gold: Any) -> None:
    """Before anything is scored, with row, value and the nearest label."""
    said = refused({"text": TEXTS, "gold": gold}, gold_column="gold")

    assert "corpus.parquet, row 1: gold column 'gold' has 'Othr'" in said
    assert "did you mean 'Other'?" in said
    assert "--ignore-unknown-gold" in said


def test_unknown_gold_can_be_ignored(batch_classify: Command, write: Write, tmp_path: Path) -> None:
    """With --ignore-unknown-gold the run succeeds."""
    corpus = write({"text": TEXTS, "gold": [["Other"], ["Othr"], []]})
    result = batch_classify(
        corpus, gold_column="gold", ignore_unknown_gold=True, output=tmp_path / "scored"
    )

    assert result.exit_code == 0


@pytest.mark.parametrize("gold", [[1, 2, 3], [[1], [2], [3]], [{"a": 1}] * 3], ids=str)
def test_gold_that_is_not_text_is_refused(refused: Refused, gold: list[object]) -> None:
    """Numbers are not labels."""
    said = refused({"text": TEXTS, "gold": gold}, gold_column="gold")

    assert "expected a list of strings or a string" in said
