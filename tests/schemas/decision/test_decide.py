"""What calibration and decision promise."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from schemas.decision.decide import Calibration, Knots, calibrate, decide
from tests.strategies import STEADY, Floats, calibrations, logits

VECTOR = Calibration(method="vector", scale=(1.7, 0.3, 2.5), bias=(-0.4, 0.0, 1.25))
NONE = Calibration.none(3)
CURVE = Knots(logits=(-2.0, 0.0, 0.5), probabilities=(0.125, 0.25, 0.75))
ISOTONIC = Calibration(
    method="isotonic", scale=(2.0,) * 3, bias=(1.0,) * 3, knots=(CURVE, None, CURVE)
)


def floats(values: list[list[float]] | list[float]) -> Floats:
    """A float32 array."""
    return np.array(values, dtype=np.float32)


def test_equal_probability_is_positive() -> None:
    """A probability exactly at its threshold counts as positive."""
    decided = decide(floats([[0.25]]), floats([0.25]))

    assert decided.tolist() == [[True]]


def test_next_probability_below_is_negative() -> None:
    """The float just below the threshold does not reach it."""
    threshold = np.float32(0.25)
    below = np.nextafter(threshold, np.float32(0))

    assert decide(np.array([[below]]), np.array([threshold])).tolist() == [[False]]


def test_each_label_has_its_own_threshold() -> None:
    """Thresholds stand in label order."""
    decided = decide(floats([[0.5, 0.5], [0.1, 0.9]]), floats([0.4, 0.6]))

    assert decided.tolist() == [[True, False], [False, True]]


def test_no_calibration_is_the_sigmoid() -> None:
    """Without calibration a probability is the sigmoid of its logit."""
    found = calibrate(floats([[0.0, np.log(3), -np.log(3)]]), NONE)

    np.testing.assert_allclose(found, [[0.5, 0.75, 0.25]], rtol=1e-6)


def test_scale_and_bias_stand_in_label_order() -> None:
    """Each label is scaled and shifted by its own numbers."""
    found = calibrate(floats([[1.0, 1.0, 1.0]]), VECTOR)

    np.testing.assert_allclose(found, 1 / (1 + np.exp([[-1.3, -0.3, -3.75]])), rtol=1e-6)


def test_extreme_logits_do_not_overflow() -> None:
    """At +-1e4 the result is exactly 1 and 0; a warning would fail this test."""
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        found = calibrate(floats([[1e4, -1e4, 0.0]]), NONE)

    assert found.tolist() == [[1.0, 0.0, 0.5]]


def test_knots_are_joined_by_straight_lines() -> None:
    """On a knot its probability, between two their mean by distance, outside the nearest."""
    found = calibrate(floats([[-2.0, 0.0, 0.5], [-1.0, 0.0, 0.25], [-9.0, 0.0, 9.0]]), ISOTONIC)

    np.testing.assert_allclose(found[:, 0], [0.125, 0.1875, 0.125])
    np.testing.assert_allclose(found[:, 2], [0.75, 0.5, 0.75])


def test_label_without_knots_takes_scale_and_bias() -> None:
    """An isotonic calibration may leave a label to the task's fit."""
    found = calibrate(floats([[0.0, 0.5, 0.0]]), ISOTONIC)

    assert found[0, 1] == pytest.approx(1 / (1 + np.exp(-2)))


@STEADY
@given(logits=logits(), calibration=calibrations())
def test_probabilities_are_float32_between_0_and_1(
    logits: Floats, calibration: Calibration
) -> None:
    """Whatever the logits, there are no NaNs and nothing outside [0, 1]."""
    found = calibrate(logits, calibration)

    assert found.dtype == np.float32
    assert found.shape == logits.shape
    assert ((found >= 0) & (found <= 1)).all()


@STEADY
@given(logits=logits(), calibration=calibrations())
def test_higher_logit_is_never_a_lower_probability(
    logits: Floats, calibration: Calibration
) -> None:
    """Calibration keeps the order of a label's rows."""
    ordered = np.sort(logits, axis=0)

    assert (np.diff(calibrate(ordered, calibration), axis=0) >= 0).all()


@STEADY
@given(logits=logits(), calibration=calibrations(), data=st.data())
def test_row_does_not_depend_on_other_rows(
    logits: Floats, calibration: Calibration, data: st.DataObject
) -> None:
    """A row alone, or among others in any order, gives the same bits."""
    order = data.draw(st.permutations(range(len(logits))))
    together = calibrate(logits, calibration)
    shuffled = calibrate(logits[order], calibration)
    alone = np.concatenate(
        [calibrate(logits[row : row + 1], calibration) for row in range(len(logits))]
    )

    assert together.tobytes() == alone.tobytes()
    assert shuffled.tobytes() == together[order].tobytes()


@STEADY
@given(logits=logits(), calibration=calibrations())
def test_memory_layout_does_not_matter(logits: Floats, calibration: Calibration) -> None:
    """Column order, strides and a wider array around them leave the bits alone."""
    wide = np.repeat(logits, 2, axis=1)[:, ::2]

    expected = calibrate(logits, calibration).tobytes()
    assert calibrate(np.asfortranarray(logits), calibration).tobytes() == expected
    assert calibrate(wide, calibration).tobytes() == expected


@STEADY
@given(calibration=calibrations())
def test_calibration_survives_json(calibration: Calibration) -> None:
    """What is stored in a file is what is read from it, to the last bit."""
    assert Calibration.model_validate_json(calibration.model_dump_json()) == calibration


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"method": "none", "scale": (2.0,), "bias": (0.0,)}, "'none' has scale 1"),
        ({"method": "none", "scale": (1.0,), "bias": (1.0,)}, "'none' has bias 0"),
        ({"method": "temperature", "scale": (2.0,), "bias": (1.0,)}, "'temperature' has bias 0"),
        ({"method": "platt", "scale": (1.0, 2.0), "bias": (0.0, 0.0)}, "one scale and one bias"),
        ({"method": "vector", "scale": (-1.0,), "bias": (0.0,)}, "greater than 0"),
        ({"method": "vector", "scale": (0.0,), "bias": (0.0,)}, "greater than 0"),
        ({"method": "vector", "scale": (1.0,), "bias": (0.0,), "knots": (CURVE,)}, "no knots"),
        ({"method": "beta", "scale": (1.0,), "bias": (0.0,)}, "'vector' or 'isotonic'"),
    ],
)
def test_calibration_that_is_none_of_its_method_is_refused(
    values: dict[str, Any], message: str
) -> None:
    """Numbers that a method cannot have fitted are not served."""
    with pytest.raises(ValidationError, match=message):
        Calibration(**values)


@pytest.mark.parametrize(
    ("logits", "probabilities"),
    [
        ((0.0,), (0.5,)),
        ((0.0, 0.0), (0.5, 0.6)),
        ((1.0, 0.0), (0.5, 0.6)),
        ((0.0, 1.0), (0.6, 0.5)),
        ((0.0, 1.0), (0.5,)),
        ((0.0, 1.0), (0.5, 1.5)),
        ((0.0, float("inf")), (0.5, 0.6)),
    ],
)
def test_knots_that_do_not_rise_are_refused(
    logits: tuple[float, ...], probabilities: tuple[float, ...]
) -> None:
    """A curve that decreases, is flat, or has one knot would change the order of rows."""
    with pytest.raises(ValidationError):
        Knots(logits=logits, probabilities=probabilities)
