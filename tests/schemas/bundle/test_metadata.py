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
from pydantic import ValidationError

from schemas.bundle.facts import EncoderFacts, Portability, TrainingFacts, Verification
from schemas.bundle.metadata import ArtefactMetadata, metadata_model
from schemas.bundle.props import PREFIX, from_props, to_props
from schemas.decision.decide import Calibration
from schemas.decision.metrics import LabelScores
from schemas.decision.settings import CalibrationQuality, DecisionEvidence
from schemas.decision.thresholds import ThresholdRule
from schemas.errors import BundleError
from schemas.text.model_text import TextSpec
from tests.label_tasks import KIND, decision_of
from tests.strategies import STEADY, calibrations, threshold_rules

LABELS = ("crude oil", "grain, wheat", "Überblick “新闻”")


def evidence(labels: int = 3, rule: ThresholdRule | None = None) -> DecisionEvidence:
    """How calibration and thresholds of a task were chosen."""
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


SCORES = LabelScores(
    rows=4,
    micro_f1=1 / 3,
    macro_f1=0.1,
    samples_f1=0.2,
    exact_match=0.0,
    precision=1.0,
    recall=0.5,
    macro_precision=0.25,
    macro_recall=0.125,
    weighted_f1=1 / 7,
)


def metadata(**changes: Any) -> ArtefactMetadata:
    """The metadata of a task with three labels."""
    whole: dict[str, Any] = {
        "task": "topics",
        "kind": KIND,
        "labels": LABELS,
        "thresholds": (0.1, 0.30000001192092896, 1.0),
        "calibration": Calibration(method="platt", scale=(1.1,) * 3, bias=(-1e-7,) * 3),
        "evidence": evidence(),
        "max_tokens": 128,
        "pad_id": 0,
        "text": TextSpec(),
        "windows": None,
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
            options={},
            versions={"torch": "2"},
        ),
        "metrics": {
            "validation": SCORES,
            "cross_validated": SCORES.model_copy(update={"micro_f1": 0.3}),
            "verification": Verification(
                texts=4,
                shapes=2,
                logit_tolerance=1e-4,
                max_logit_difference=3e-7,
                max_differing_decisions=1e-3,
                differing_decisions=0.0,
            ),
            "portability": Portability(
                texts=16, machine="x86_64", max_logit_difference=2e-7, bound=2e-6
            ),
        },
        "precision": "fp32",
        "cost": None,
        "variants": {},
        "references": None,
        "recalibration": None,
    }
    return metadata_model(KIND).model_validate({**whole, **changes})


PARENTS = {LABELS[0]: LABELS[1], LABELS[2]: LABELS[1]}


def props_of(*tasks: ArtefactMetadata) -> dict[str, str]:
    """Props of the file of some tasks, by default of that of `metadata()`."""
    return to_props(tasks or [metadata()])


def read(props: dict[str, str]) -> ArtefactMetadata:
    """Metadata of the only task of a file."""
    (about,) = from_props(props, source="x").values()
    return about


def refusal(props: dict[str, str]) -> str:
    """The message that metadata is refused with."""
    with pytest.raises(BundleError) as caught:
        from_props(props, source="topics.onnx")
    return str(caught.value)


def test_props_give_the_same_metadata_back() -> None:
    """Every field survives, to the last bit and letter, under the name of the task."""
    assert from_props(props_of(), source="x") == {"topics": metadata()}


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
        evidence=evidence(count, data.draw(threshold_rules())),
    )

    assert read(props_of(given)) == given


def test_every_prop_is_json_under_the_prefix() -> None:
    """A reader in any language needs a JSON parser and nothing else."""
    props = props_of()

    assert all(key.startswith("narrascan.") for key in props)
    assert json.loads(props["narrascan.labels"]) == list(LABELS)
    assert json.loads(props["narrascan.schema_version"]) == 1


def test_onnx_file_carries_the_metadata(tmp_path: Path) -> None:
    """What is put into an ONNX file is what onnxruntime reads from it."""
    value = helper.make_tensor_value_info("a", TensorProto.FLOAT, [1])
    result = helper.make_tensor_value_info("b", TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node("Identity", ["a"], ["b"])], "g", [value], [result])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, props_of())
    onnx.save(model, tmp_path / "topics.onnx")

    session = onnxruntime.InferenceSession(
        str(tmp_path / "topics.onnx"), providers=["CPUExecutionProvider"]
    )

    props = session.get_modelmeta().custom_metadata_map
    assert read(props) == metadata()


def test_thresholds_are_an_array_in_label_order() -> None:
    """The array for `decide` is float32 and has one value a label."""
    array = decision_of(metadata()).threshold_array

    assert str(array.dtype) == "float32"
    assert array.tolist() == pytest.approx([0.1, 0.3, 1.0])


def test_newer_version_is_refused() -> None:
    """A file of a later version is not half understood, even where it has keys unknown here."""
    props = {**props_of(), "narrascan.schema_version": "2", "narrascan.new": "1"}

    message = refusal(props)
    assert "topics.onnx: schema_version 2 is newer than 1" in message
    assert "upgrade" in message


@pytest.mark.parametrize("version", ['"1"', "1.0", "true", "null", "0", "-1", "[1]"])
def test_strange_version_is_refused(version: str) -> None:
    """A version that is no whole number from 1 on is refused with its value."""
    assert "schema_version is" in refusal({**props_of(), "narrascan.schema_version": version})


def test_file_without_metadata_is_refused() -> None:
    """An ONNX file of another maker is refused, with what it lacks."""
    assert "no narrascan.* metadata" in refusal({"author": "someone"})


def test_props_of_others_are_left_alone() -> None:
    """Keys without the prefix do not matter, whatever they hold."""
    props = {**props_of(), "author": "{not json"}

    assert read(props) == metadata()


@pytest.mark.parametrize("key", props_of())
def test_missing_key_is_named(key: str) -> None:
    """Metadata that lacks a field is refused, and the field is named."""
    props = props_of()
    del props[key]

    assert key.removeprefix("narrascan.") in refusal(props)


@pytest.mark.parametrize("key", props_of())
@pytest.mark.parametrize("value", ["{garbled", "", '{"a": 1}', "[[]]"])
def test_garbled_key_is_named(key: str, value: str) -> None:
    """A value that is not JSON, or JSON of another kind, is refused with its key."""
    assert key.removeprefix("narrascan.") in refusal({**props_of(), key: value})


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
        ("evidence", evidence(2).model_dump_json()),
        ("evidence", evidence(4).model_dump_json()),
    ],
)
def test_wrong_number_of_values_is_refused(key: str, value: str) -> None:
    """Thresholds and calibration have one value for each label, not fewer, not more."""
    message = refusal({**props_of(), f"narrascan.{key}": value})

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
        ("evidence", evidence().model_dump_json().replace('"f1"', '"macro_f1"')),
        ("evidence", evidence().model_dump_json().replace("0.125", "1.125")),
        ("metrics", metadata().metrics.model_dump_json().replace("2e-6", "Infinity")),
        ("metrics", metadata().metrics.model_dump_json().replace("3e-7", "NaN")),
        ("metrics", metadata().metrics.model_dump_json().replace("0.125", "NaN")),
        ("labels", '["a", "a", "b"]'),
        ("labels", '["a", " ", "b"]'),
        ("task", '"../topics"'),
        ("kind", '"regression"'),
        ("max_tokens", "2"),
        ("pad_id", "-1"),
        ("text", '{"title": true, "color": "red"}'),
        ("windows", '{"tokens": 64, "stride": 65, "max_windows": 4, "pooling": "mean"}'),
        ("windows", '{"tokens": 256, "stride": 64, "max_windows": 4, "pooling": "mean"}'),
        ("windows", '{"tokens": 64, "stride": 48, "max_windows": 4, "pooling": "median"}'),
    ],
)
def test_impossible_value_is_refused(key: str, value: str) -> None:
    """A value that cannot be right is refused rather than served."""
    assert key in refusal({**props_of(), f"narrascan.{key}": value})


def test_shared_file_says_everything_of_every_task() -> None:
    """What each task's own file says can be read back, by task; keys of others mean nothing."""
    tasks = [metadata(), metadata(task="other")]
    props = props_of(*tasks)

    own = [key.removeprefix(PREFIX) for key in props_of()]
    assert list(props) == [f"{PREFIX}{about.task}.{key}" for about in tasks for key in own]
    stored = from_props({**props, "producer": "{not json"}, source="shared.onnx")
    assert stored == {about.task: about for about in tasks}


def test_shared_metadata_that_is_not_valid_is_refused() -> None:
    """The file and the task are named, and the key where it is not JSON."""
    props = props_of(metadata(), metadata(task="other"))
    key = f"{PREFIX}other.schema_version"

    newer = refusal({**props, key: "99"})
    assert f"topics.onnx: {PREFIX}other: schema_version 99 is newer" in newer
    assert f"metadata {key} is not JSON" in refusal({**props, key: "{"})


@pytest.mark.parametrize("key", props_of())
def test_missing_key_of_a_shared_file_is_named(key: str) -> None:
    """Metadata that lacks a field of one task is refused, and task and field are named."""
    props = props_of(metadata(), metadata(task="other"))
    field = key.removeprefix(PREFIX)
    del props[f"{PREFIX}other.{field}"]

    message = refusal(props)
    assert f"{PREFIX}other" in message
    assert field in message


def test_shared_metadata_of_another_task_is_refused() -> None:
    """Metadata under the name of a task has to be that of this task."""
    props = props_of(metadata(), metadata(task="other"))

    message = refusal({**props, f"{PREFIX}other.task": '"topics"'})
    assert "is listed for task 'other', and its metadata is that of task 'topics'" in message


def test_references_of_a_kind_without_them_are_refused() -> None:
    """The message names the kind."""
    props = {**props_of(), f"{PREFIX}references": json.dumps({"neighbours": 1, "ids": ["a", "b"]})}

    assert f"a task of kind {KIND!r} has no reference texts" in refusal(props)


def test_more_neighbours_than_references_are_refused() -> None:
    """The message has both numbers."""
    props = {**props_of(), f"{PREFIX}references": json.dumps({"neighbours": 2, "ids": ["a", "b"]})}

    assert "2 neighbours of 2 reference texts" in refusal(props)


def test_a_task_without_labels_is_refused() -> None:
    """A kind with labels needs one, even where nothing else has a value a label."""
    none = {
        "labels": (),
        "thresholds": (),
        "calibration": Calibration(method="platt", scale=(), bias=()),
        "evidence": evidence(0),
    }
    with pytest.raises(ValidationError, match="a task needs at least one label"):
        metadata(**none)


def test_parents_are_carried() -> None:
    """Parents have a key of their own, which a task of one level does not have."""
    props = props_of(metadata(parents=PARENTS))

    assert json.loads(props[f"{PREFIX}parents"]) == PARENTS
    assert decision_of(from_props(props, source="t.onnx")["topics"]).parents == PARENTS
    assert f"{PREFIX}parents" not in props_of()
    assert decision_of(from_props(props_of(), source="t.onnx")["topics"]).parents == {}


@pytest.mark.parametrize(
    ("parents", "message"),
    [
        ({LABELS[0]: "energy"}, "parents has 'energy', which labels does not list"),
        ({LABELS[0]: LABELS[1], LABELS[1]: LABELS[2]}, "more than two levels"),
        ({LABELS[0]: 1}, "parents"),
        ([LABELS[0]], "parents"),
    ],
)
def test_parents_that_do_not_fit_are_refused(parents: object, message: str) -> None:
    """A damaged file is refused with the label or the chain that is wrong."""
    props = {**props_of(), f"{PREFIX}parents": json.dumps(parents)}

    with pytest.raises(BundleError, match=message):
        from_props(props, source="t.onnx")
