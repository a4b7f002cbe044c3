"""What a file says of itself, and what is refused."""

import json
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from schemas.bundle.facts import EncoderFacts, Portability, TrainingFacts, Verification
from schemas.bundle.metadata import (
    ArtefactMetadata,
    ArtefactMetrics,
    shared_from_props,
    shared_props,
)
from schemas.bundle.props import PREFIX
from schemas.decision.decide import Calibration
from schemas.decision.metrics import Scores
from schemas.decision.settings import CalibrationQuality, DecisionEvidence
from schemas.decision.thresholds import ThresholdRule
from schemas.errors import BundleError
from schemas.text.model_text import TextSpec
from tests.strategies import STEADY, calibrations, threshold_rules

LABELS = ("crude oil", "grain, wheat", "Überblick “新闻”")


def decision(labels: int = 3, rule: ThresholdRule | None = None) -> DecisionEvidence:
    """How a task decides."""
    quality = CalibrationQuality(ece=(1 / 3,) * labels, brier=(0.125,) * labels)
    return DecisionEvidence(
        calibration="auto",
        thresholds=rule or ThresholdRule(),
        confidence=0.95,
        intervals=((0.1, 0.30000001192092896),) * labels,
        positives=(2,) * labels,
        before=quality,
        after=quality,
    )


SCORES = Scores(
    rows=4,
    micro_f1=1 / 3,
    macro_f1=0.1,
    samples_f1=0.2,
    exact_match=0.0,
    precision=1.0,
    recall=0.5,
    macro_precision=0.25,
    macro_recall=0.125,
)


def metadata(**changes: Any) -> ArtefactMetadata:
    """The metadata of a task with three labels."""
    whole: dict[str, Any] = {
        "task": "topics",
        "kind": "multilabel",
        "labels": LABELS,
        "thresholds": (0.1, 0.30000001192092896, 1.0),
        "calibration": Calibration(method="platt", scale=(1.1,) * 3, bias=(-1e-7,) * 3),
        "decision": decision(),
        "max_tokens": 128,
        "pad_id": 0,
        "text": TextSpec(),
        "tokenizer_sha256": "ab" * 32,
        "encoder": EncoderFacts(
            source="folder", model_type="bert", hidden=32, layers=2, parameters=1000
        ),
        "training": TrainingFacts(
            config_sha256="c" * 64,
            data_sha256="d" * 64,
            git_commit=None,
            train_rows=10,
            positives=(5, 3, 1),
            loss="db",
            versions={"torch": "2"},
        ),
        "metrics": ArtefactMetrics(
            validation=SCORES,
            cross_validated=SCORES.model_copy(update={"micro_f1": 0.3}),
            verification=Verification(
                texts=4,
                shapes=2,
                logit_tolerance=1e-4,
                max_logit_difference=3e-7,
                max_differing_decisions=1e-3,
                differing_decisions=0.0,
            ),
            portability=Portability(
                texts=16, machine="x86_64", max_logit_difference=2e-7, bound=2e-6
            ),
        ),
        "precision": "fp32",
        "cost": None,
        "variants": {},
        "recalibration": None,
    }
    return ArtefactMetadata(**{**whole, **changes})


def refusal(props: dict[str, str]) -> str:
    """The message that metadata is refused with."""
    with pytest.raises(BundleError) as caught:
        ArtefactMetadata.from_props(props, source="topics.onnx")
    return str(caught.value)


def test_props_give_the_same_metadata_back() -> None:
    """Every field survives, to the last bit and letter."""
    assert ArtefactMetadata.from_props(metadata().to_props(), source="x") == metadata()


@STEADY
@given(
    labels=st.lists(
        st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip),
        min_size=1,
        max_size=5,
        unique=True,
    ),
    data=st.data(),
)
def test_any_labels_and_decisions_survive(labels: list[str], data: st.DataObject) -> None:
    """Labels in any script, thresholds of any float, any calibration and rule come back equal."""
    count = len(labels)
    given = metadata(
        labels=tuple(labels),
        thresholds=data.draw(st.tuples(*[st.floats(0, 1, width=32)] * count)),
        calibration=data.draw(calibrations(count)),
        decision=decision(count, data.draw(threshold_rules())),
    )

    assert ArtefactMetadata.from_props(given.to_props(), source="x") == given


def test_every_prop_is_json_under_the_prefix() -> None:
    """A reader in any language needs a JSON parser and nothing else."""
    props = metadata().to_props()

    assert all(key.startswith("narrascan.") for key in props)
    assert json.loads(props["narrascan.labels"]) == list(LABELS)
    assert json.loads(props["narrascan.schema_version"]) == 1


def test_onnx_file_carries_the_metadata(tmp_path: Path) -> None:
    """What is put into an ONNX file is what onnxruntime reads from it."""
    value = helper.make_tensor_value_info("a", TensorProto.FLOAT, [1])
    result = helper.make_tensor_value_info("b", TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node("Identity", ["a"], ["b"])], "g", [value], [result])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, metadata().to_props())
    onnx.save(model, tmp_path / "topics.onnx")

    session = onnxruntime.InferenceSession(
        str(tmp_path / "topics.onnx"), providers=["CPUExecutionProvider"]
    )

    props = session.get_modelmeta().custom_metadata_map
    assert ArtefactMetadata.from_props(props, source="x") == metadata()


def test_thresholds_are_an_array_in_label_order() -> None:
    """The array for `decide` is float32 and has one value a label."""
    array = metadata().threshold_array

    assert str(array.dtype) == "float32"
    assert array.tolist() == pytest.approx([0.1, 0.3, 1.0])


def test_newer_version_is_refused() -> None:
    """A file of a later version is not half understood, even where it has keys unknown here."""
    props = {**metadata().to_props(), "narrascan.schema_version": "2", "narrascan.new": "1"}

    message = refusal(props)
    assert "topics.onnx: schema_version 2 is newer than 1" in message
    assert "upgrade" in message


@pytest.mark.parametrize("version", ['"1"', "1.0", "true", "null", "0", "-1", "[1]"])
def test_strange_version_is_refused(version: str) -> None:
    """A version that is no whole number from 1 on is refused with its value."""
    assert "schema_version is" in refusal(
        {**metadata().to_props(), "narrascan.schema_version": version}
    )


def test_file_without_metadata_is_refused() -> None:
    """An ONNX file of another maker is told as such."""
    assert "no narrascan.* metadata" in refusal({"author": "someone"})


def test_props_of_others_are_left_alone() -> None:
    """Keys without the prefix do not matter, whatever they hold."""
    props = {**metadata().to_props(), "author": "{not json"}

    assert ArtefactMetadata.from_props(props, source="x") == metadata()


@pytest.mark.parametrize("key", [key for key in metadata().to_props() if "precision" not in key])
def test_missing_key_is_named(key: str) -> None:
    """Metadata that lacks a field is refused, and the field is named."""
    props = metadata().to_props()
    del props[key]

    assert key.removeprefix("narrascan.") in refusal(props)


@pytest.mark.parametrize("key", metadata().to_props())
@pytest.mark.parametrize("value", ["{garbled", "", '{"a": 1}', "[[]]"])
def test_garbled_key_is_named(key: str, value: str) -> None:
    """A value that is not JSON, or JSON of another kind, is refused with its key."""
    assert key.removeprefix("narrascan.") in refusal({**metadata().to_props(), key: value})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("thresholds", "[0.1, 0.2]"),
        ("thresholds", "[0.1, 0.2, 0.3, 0.4]"),
        ("calibration", '{"method": "none", "scale": [1.0], "bias": [0, 0, 0]}'),
        ("calibration", '{"method": "none", "scale": [1, 1, 1], "bias": []}'),
        (
            "calibration",
            '{"method": "isotonic", "scale": [1, 1, 1], "bias": [0, 0, 0], "knots": [null]}',
        ),
        ("decision", decision(2).model_dump_json()),
        ("decision", decision(4).model_dump_json()),
    ],
)
def test_wrong_number_of_values_is_refused(key: str, value: str) -> None:
    """Thresholds and calibration have one value for each label, not fewer, not more."""
    message = refusal({**metadata().to_props(), f"narrascan.{key}": value})

    assert key in message
    assert "for 3 labels" in message


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("thresholds", "[0.1, 0.2, 1.5]"),
        ("thresholds", "[0.1, -0.2, 0.5]"),
        ("thresholds", "[0.1, NaN, 0.5]"),
        ("calibration", '{"method": "platt", "scale": [1, NaN, 1], "bias": [0, 0, 0]}'),
        ("calibration", '{"method": "platt", "scale": [1, 1, 1], "bias": [0, Infinity, 0]}'),
        ("calibration", '{"method": "platt", "scale": [-1, -1, -1], "bias": [0, 0, 0]}'),
        ("decision", decision().model_dump_json().replace('"f1"', '"macro_f1"')),
        ("decision", decision().model_dump_json().replace("0.125", "1.125")),
        ("metrics", metadata().metrics.model_dump_json().replace("2e-6", "Infinity")),
        ("metrics", metadata().metrics.model_dump_json().replace("3e-7", "NaN")),
        ("metrics", metadata().metrics.model_dump_json().replace("0.125", "NaN")),
        ("labels", '["a", "a", "b"]'),
        ("labels", '["a", " ", "b"]'),
        ("task", '"../topics"'),
        ("kind", '"regression"'),
        ("max_tokens", "2"),
        ("pad_id", "-1"),
        ("text", '{"title": true, "colour": "red"}'),
    ],
)
def test_impossible_value_is_refused(key: str, value: str) -> None:
    """A value that cannot be right is refused rather than served."""
    assert key in refusal({**metadata().to_props(), f"narrascan.{key}": value})


def test_shared_file_says_everything_of_every_task() -> None:
    """What each task's own file says can be read back, by task; other keys mean nothing."""
    tasks = [metadata(), metadata(task="other")]
    props = shared_props(tasks)

    assert sorted(props) == sorted(f"{PREFIX}task.{about.task}" for about in tasks)
    stored = shared_from_props({**props, "producer": "x"}, source="shared.onnx")
    assert stored == {about.task: about for about in tasks}
    assert shared_from_props(metadata().to_props(), source="own.onnx") == {}


def test_shared_metadata_that_is_not_valid_is_refused() -> None:
    """The file and the key are named."""
    (key, value), *_ = shared_props([metadata()]).items()
    damaged = {key: value.replace('"schema_version":1', '"schema_version":99')}

    with pytest.raises(BundleError, match=rf"shared\.onnx: {key}: schema_version 99 is newer"):
        shared_from_props(damaged, source="shared.onnx")
    with pytest.raises(BundleError, match=r"is not JSON"):
        shared_from_props({key: value[:-1]}, source="shared.onnx")
