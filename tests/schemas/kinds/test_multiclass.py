"""What a task with one label a row promises: gold, answers, columns and config."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from schemas.decision.classes import NO_CLASS, ClassCalibration, ClassDecision
from schemas.kinds.multiclass import Classes, MulticlassKind, MulticlassOptions
from schemas.text.arrow_text import BadText

KIND = MulticlassKind()
LABELS = ("neg", "neutral", "pos")


def answers(*logits: list[float], least: float = 0.0) -> Classes:
    """Decide the rows of some logits."""
    decision = ClassDecision(calibration=ClassCalibration.none(3), least_probability=least)
    return KIND.decide([np.array(row, np.float32) for row in logits], LABELS, decision, [])


def test_each_row_gets_its_most_probable_label() -> None:
    """Label and probabilities are Python values, in label order."""
    (answer,) = answers([0.0, 1.0, 3.0]).answers()

    assert answer.labels == ("pos",)
    assert answer.probabilities is not None
    assert list(answer.probabilities) == list(LABELS)
    assert sum(answer.probabilities.values()) == pytest.approx(1.0)


def test_an_improbable_label_is_not_given() -> None:
    """Below the least probability a row has probabilities, and no label."""
    decided = answers([0.0, 0.1, 0.2], [0.0, 0.1, 9.0], least=0.5)
    label, probabilities = decided.columns(np.ones(2, np.bool_), "map")

    assert label.to_pylist() == [None, "pos"]
    assert probabilities.null_count == 0
    assert decided.answers()[0].labels == ()


def test_rows_without_an_answer_are_null() -> None:
    """Quarantined and empty rows have neither label nor probabilities."""
    taken = answers([0.0, 0.0, 1.0], [5.0, 0.0, 1.0]).take(np.array([1, -1, 0]))
    label, probabilities = taken.columns(np.array([True, False, True]), "map")

    assert label.to_pylist() == ["neg", None, "pos"]
    assert probabilities.is_null().to_pylist() == [False, True, False]


@pytest.mark.parametrize("form", ["map", "struct", "none"])
def test_columns_have_the_type_that_fields_promise(form: str) -> None:
    """Also for no rows at all."""
    for rows in (0, 2):
        decided = answers(*[[0.0, 1.0, 2.0]] * rows)
        columns = decided.columns(np.ones(rows, np.bool_), form)  # type: ignore[arg-type]
        fields = KIND.fields(LABELS, len(LABELS), form)  # type: ignore[arg-type]

        assert [column.type for column in columns] == [field.type for field in fields]
        assert [len(column) for column in columns] == [rows] * len(fields)


def test_answers_of_several_batches_follow_each_other() -> None:
    """The same as of one batch."""
    first, second = answers([0.0, 1.0, 0.0]), answers([9.0, 0.0, 0.0], [0.0, 0.0, 1.0])
    joined = first.followed_by([second])

    assert [answer.labels for answer in joined.answers()] == [("neutral",), ("neg",), ("pos",)]
    assert joined.changed(answers([0.0, 1.0, 0.0], [0.0, 9.0, 0.0], [0.0, 0.0, 1.0])).tolist() == [
        [False],
        [True],
        [False],
    ]


@pytest.mark.parametrize(
    "column_type",
    [pa.string(), pa.large_string(), pa.binary(), pa.dictionary(pa.int8(), pa.string())],
)
def test_gold_is_read_from_every_text_type(column_type: pa.DataType) -> None:
    """Null and blank strings mean that a row is not labelled."""
    values = (
        [b"pos", b" ", None, b"neg"] if column_type == pa.binary() else ["pos", " ", None, "neg"]
    )
    column = pa.array(values, column_type)

    assert KIND.accepts_gold(column.type)
    assert KIND.read_gold(column) == ["pos", None, None, "neg"]


def test_gold_that_is_not_utf8_keeps_its_reason() -> None:
    """The row can then be quarantined."""
    (label,) = KIND.read_gold(pa.array([b"\xff"], pa.binary()))

    assert isinstance(label, BadText)
    assert KIND.gold_labels(label) == (label,)


@pytest.mark.parametrize("column_type", [pa.list_(pa.int64()), pa.int64(), pa.float32()])
def test_gold_of_other_types_is_refused(column_type: pa.DataType) -> None:
    """Labels are text."""
    assert not KIND.accepts_gold(column_type)


def test_gold_may_be_lists_of_one_label() -> None:
    """An empty list is not labelled; a row with several labels has the reason in its place."""
    column = pa.array([["pos"], [], None, ["neg", "pos"], ["neg"]], pa.large_list(pa.string()))
    first, empty, null, several, last = KIND.read_gold(column)

    assert (first, empty, null, last) == ("pos", None, None, "neg")
    assert isinstance(several, BadText)
    assert several == "2 labels, expected one: 'neg', 'pos'"


def test_labels_that_the_task_does_not_have_are_no_class() -> None:
    """They have no number, and `only_known` drops the row."""
    assert KIND.encode(["pos", "", "angry", "neg"], LABELS).tolist() == [2, NO_CLASS, NO_CLASS, 0]
    assert KIND.only_known("angry", LABELS) is None
    assert KIND.only_known("pos", LABELS) == "pos"
    assert KIND.gold_labels(KIND.empty_gold()) == ()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss": {"name": "db"}}, "'ce', 'weighted-ce' or 'focal-ce'"),
        ({"decision": {"least_probability": 1.0}}, "less than 1"),
        ({"decision": {"calibration": "platt"}}, "'temperature'"),
        ({"decision": {"thresholds": {}}}, "Extra inputs"),
    ],
)
def test_options_of_other_kinds_are_refused(options: dict[str, object], message: str) -> None:
    """A softmax has no thresholds, and its own losses."""
    with pytest.raises(ValidationError, match=message):
        MulticlassOptions.model_validate(options)
