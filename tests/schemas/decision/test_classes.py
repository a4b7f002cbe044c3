"""What the softmax, its calibration and its scores promise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pydantic import ValidationError
from sklearn.metrics import accuracy_score, f1_score, precision_score, recall_score

from schemas.arrays import Float32Array, Int64Array
from schemas.decision.classes import (
    NO_CLASS,
    ClassCalibration,
    Confusion,
    class_probabilities,
    decide_class,
)

VECTOR = ClassCalibration(method="vector", scale=(1.7, 0.3, 2.5), bias=(-0.4, 0.0, 1.25))
NONE = ClassCalibration.none(3)

LOGITS = hnp.arrays(
    np.float32, st.tuples(st.integers(1, 40), st.just(3)), elements=st.floats(-80, 80, width=32)
)


def floats(values: list[list[float]]) -> Float32Array:
    """A float32 array."""
    return np.array(values, dtype=np.float32)


def test_no_calibration_is_the_softmax() -> None:
    """Probabilities are proportional to the exponentials of the logits."""
    probabilities = class_probabilities(floats([[0.0, np.log(2), np.log(5)]]), NONE)

    np.testing.assert_allclose(probabilities, [[0.125, 0.25, 0.625]], rtol=1e-6)


def test_scale_and_bias_stand_in_label_order() -> None:
    """Each logit is scaled and shifted by the numbers of its class before the softmax."""
    probabilities = class_probabilities(floats([[1.0, 1.0, 1.0]]), VECTOR)
    powers = np.exp([1.3, 0.3, 3.75])

    np.testing.assert_allclose(probabilities, [powers / powers.sum()], rtol=1e-6)


@given(LOGITS)
def test_probabilities_of_a_row_depend_on_that_row_alone(logits: Float32Array) -> None:
    """The same bits alone, reversed, and among others; they add up to 1 and are never NaN."""
    together = class_probabilities(logits, VECTOR)
    backwards = class_probabilities(logits[::-1], VECTOR)[::-1]
    alone = np.concatenate([class_probabilities(row[None], VECTOR) for row in logits])

    assert together.tobytes() == backwards.tobytes() == alone.tobytes()
    np.testing.assert_allclose(together.sum(axis=1), 1.0, rtol=1e-5)


@given(LOGITS)
def test_the_highest_logit_wins_under_a_temperature(logits: Float32Array) -> None:
    """One scale for all classes changes no decision but between equal float32 probabilities."""
    temperature = ClassCalibration(method="temperature", scale=(0.5,) * 3, bias=(0.0,) * 3)
    probabilities = class_probabilities(logits, temperature)
    decided = decide_class(probabilities, 0.0)
    rows = np.arange(len(logits))

    assert (probabilities[rows, decided] == probabilities[rows, logits.argmax(axis=1)]).all()


def test_equal_classes_give_the_first() -> None:
    """Ties are decided by label order, the same everywhere."""
    assert decide_class(floats([[0.2, 0.4, 0.4]]), 0.0).tolist() == [1]


def test_least_probability_itself_is_enough() -> None:
    """A class exactly at the least probability is given, the next float below is not."""
    least = np.float32(0.6)
    below = np.nextafter(least, np.float32(0))
    decided = decide_class(np.array([[least, 0.4], [below, 0.4]], np.float32), float(least))

    assert decided.tolist() == [0, NO_CLASS]


@pytest.mark.parametrize(
    "wrong",
    [
        {"method": "none", "scale": (2.0, 2.0), "bias": (0.0, 0.0)},
        {"method": "temperature", "scale": (2.0, 1.0), "bias": (0.0, 0.0)},
        {"method": "temperature", "scale": (2.0, 2.0), "bias": (1.0, 1.0)},
        {"method": "vector", "scale": (2.0, 0.0), "bias": (0.0, 0.0)},
        {"method": "platt", "scale": (2.0, 2.0), "bias": (0.0, 0.0)},
    ],
)
def test_a_calibration_that_is_not_of_its_method_is_refused(wrong: dict[str, object]) -> None:
    """Numbers that a method does not have, and scales that would reverse an order."""
    with pytest.raises(ValidationError):
        ClassCalibration.model_validate(wrong)


@given(
    st.integers(1, 60).flatmap(
        lambda rows: st.tuples(
            hnp.arrays(np.int64, rows, elements=st.integers(0, 3)),
            hnp.arrays(np.int64, rows, elements=st.integers(NO_CLASS, 3)),
        )
    )
)
def test_scores_are_those_of_scikit_learn(rows: tuple[Int64Array, Int64Array]) -> None:
    """Accuracy, and precision, recall and F1 over all four classes; no class is always wrong."""
    gold, decided = rows
    scores = Confusion.count(gold, decided, 4).scores()
    options = {"labels": range(4), "zero_division": 0}

    assert scores.rows == len(gold)
    assert scores.accuracy == pytest.approx(accuracy_score(gold, decided))
    for name, function, average in (
        ("macro_f1", f1_score, "macro"),
        ("micro_f1", f1_score, "micro"),
        ("weighted_f1", f1_score, "weighted"),
        ("macro_precision", precision_score, "macro"),
        ("macro_recall", recall_score, "macro"),
    ):
        expected = function(gold, decided, average=average, **options)
        assert getattr(scores, name) == pytest.approx(expected), name


def test_confusions_add_up_and_skip_rows_without_gold() -> None:
    """Counts of two parts are those of the whole."""
    gold = np.array([0, 1, NO_CLASS, 1, 2])
    decided = np.array([0, 2, 1, NO_CLASS, 2])
    whole = Confusion.count(gold, decided, 3)
    parts = Confusion.count(gold[:2], decided[:2], 3) + Confusion.count(gold[2:], decided[2:], 3)

    assert whole.counts.tolist() == [[1, 0, 0, 0], [0, 0, 1, 1], [0, 0, 1, 0]]
    assert parts.counts.tolist() == whole.counts.tolist()
    assert whole.scores().rows == 4
