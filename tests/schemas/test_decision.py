"""What calibration and decision promise."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from schemas.decision import Calibration, calibrate, decide
from tests.strategies import STEADY, Floats, logits

PLATT = Calibration(method="platt", scale=(1.7, 0.3, 2.5), bias=(-0.4, 0.0, 1.25))
NONE = Calibration.none(3)


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


def test_platt_scales_and_shifts_each_label() -> None:
    """Scale and bias stand in label order."""
    found = calibrate(floats([[1.0, 1.0, 1.0]]), PLATT)

    np.testing.assert_allclose(found, 1 / (1 + np.exp([[-1.3, -0.3, -3.75]])), rtol=1e-6)


def test_extreme_logits_do_not_overflow() -> None:
    """At +-1e4 the result is exactly 1 and 0; a warning would fail this test."""
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        found = calibrate(floats([[1e4, -1e4, 0.0]]), NONE)

    assert found.tolist() == [[1.0, 0.0, 0.5]]


@STEADY
@given(logits=logits())
def test_probabilities_are_float32_between_0_and_1(logits: Floats) -> None:
    """Whatever the logits, there are no NaNs and nothing outside [0, 1]."""
    found = calibrate(logits, PLATT)

    assert found.dtype == np.float32
    assert found.shape == logits.shape
    assert ((found >= 0) & (found <= 1)).all()


@STEADY
@given(logits=logits())
def test_higher_logit_is_never_a_lower_probability(logits: Floats) -> None:
    """Calibration keeps the order of a label's rows."""
    ordered = np.sort(logits, axis=0)

    assert (np.diff(calibrate(ordered, PLATT), axis=0) >= 0).all()


@STEADY
@given(logits=logits(), data=st.data())
def test_row_does_not_depend_on_other_rows(logits: Floats, data: st.DataObject) -> None:
    """A row alone, or among others in any order, gives the same bits."""
    order = data.draw(st.permutations(range(len(logits))))
    together = calibrate(logits, PLATT)
    shuffled = calibrate(logits[order], PLATT)
    alone = np.concatenate([calibrate(logits[row : row + 1], PLATT) for row in range(len(logits))])

    assert together.tobytes() == alone.tobytes()
    assert shuffled.tobytes() == together[order].tobytes()


@STEADY
@given(logits=logits())
def test_memory_layout_does_not_matter(logits: Floats) -> None:
    """Column order, strides and a wider array around them leave the bits alone."""
    wide = np.repeat(logits, 2, axis=1)[:, ::2]

    expected = calibrate(logits, PLATT).tobytes()
    assert calibrate(np.asfortranarray(logits), PLATT).tobytes() == expected
    assert calibrate(wide, PLATT).tobytes() == expected
