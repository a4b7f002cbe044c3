"""What calibration on held-out rows promises."""

from typing import get_args

import numpy as np
import pytest
from hypothesis import given

from exporter.decision.calibration import choose_method, cross_fitted, fit_calibration
from schemas.decision.decide import Calibration, CalibrationMethod, calibrate
from schemas.decision.thresholds import each_fold
from tests.strategies import STEADY, Bools, Floats, scored_rows

METHODS: tuple[CalibrationMethod, ...] = get_args(CalibrationMethod)
EACH_METHOD = pytest.mark.parametrize("method", METHODS)
FITTED = pytest.mark.parametrize("method", [method for method in METHODS if method != "none"])


def drawn(scale: float, bias: float, *, rows: int = 4000) -> tuple[Floats, Bools]:
    """Logits, and gold drawn with probability sigmoid(scale * logit + bias)."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (rows, 3)).astype(np.float32)
    gold = rng.random((rows, 3)) < 1 / (1 + np.exp(-(scale * logits + bias)))
    return logits, gold


def test_known_scale_and_bias_are_found() -> None:
    """Where gold follows a scaled and shifted sigmoid, the fit finds it."""
    found = fit_calibration(*drawn(0.6, -1.0), "platt")

    assert found.method == "platt"
    assert found.scale == pytest.approx((0.6,) * 3, abs=0.03)
    assert found.bias == pytest.approx((-1.0,) * 3, abs=0.06)


def test_temperature_has_no_bias() -> None:
    """Where gold follows a scaled sigmoid, its scale is found, one for all labels."""
    found = fit_calibration(*drawn(0.6, 0.0), "temperature")

    assert found.method == "temperature"
    assert found.scale == pytest.approx((0.6,) * 3, abs=0.03)
    assert found.bias == (0.0,) * 3


def test_vector_finds_what_each_label_has() -> None:
    """Labels that follow other sigmoids have scales and biases of their own."""
    logits, gold = drawn(0.6, -1.0)
    gold[:, 1] = drawn(1.5, 0.5)[1][:, 1]  # of the same logits
    gold[:, 2] = drawn(1.0, 0.0)[1][:, 2]
    found = fit_calibration(logits, gold, "vector")

    assert found.method == "vector"
    assert found.scale == pytest.approx((0.6, 1.5, 1.0), abs=0.1)
    assert found.bias == pytest.approx((-1.0, 0.5, 0.0), abs=0.15)


def test_isotonic_finds_a_curve_that_no_sigmoid_is() -> None:
    """Where gold follows a step, the curve of the label follows it too."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (4000, 1)).astype(np.float32)
    truth = np.where(logits > 1, 0.8, 0.1)
    gold = rng.random(logits.shape) < truth
    found = fit_calibration(logits, gold, "isotonic")

    assert found.knots[0] is not None
    assert np.abs(calibrate(logits, found) - truth).mean() < 0.03


def test_isotonic_keeps_the_order_within_its_ends() -> None:
    """Between the first and the last knot a higher logit is a higher probability, never equal."""
    logits, gold = drawn(0.6, -1.0)
    for knots in fit_calibration(logits, gold, "isotonic").knots:
        assert knots is not None
        assert (np.diff(knots.probabilities) > 0).all()
        assert 0 < knots.probabilities[0] < knots.probabilities[-1] < 1


@pytest.mark.parametrize("method", ["vector", "isotonic"])
def test_label_with_few_rows_takes_the_shared_fit(method: CalibrationMethod) -> None:
    """Too few positive, or too few negative held-out rows: the task's scale and bias."""
    logits, gold = drawn(0.6, -1.0)
    gold[5:, 1] = False
    gold[5:, 2] = True
    shared = fit_calibration(logits, gold, "platt")
    found = fit_calibration(logits, gold, method)

    assert found.method == method
    for label in (1, 2):
        assert found.scale[label] == shared.scale[label]
        assert found.bias[label] == shared.bias[label]
        assert not found.knots or found.knots[label] is None
    assert found.scale[0] != shared.scale[0] or found.knots[0] is not None


@pytest.mark.parametrize("method", ["vector", "isotonic"])
def test_without_enough_rows_the_fit_is_shared(method: CalibrationMethod) -> None:
    """Where no label has enough rows the file says what was fitted, not what was asked for."""
    logits, gold = drawn(0.6, -1.0, rows=15)

    assert fit_calibration(logits, gold, method) == fit_calibration(logits, gold, "platt")


@FITTED
def test_calibrated_probabilities_match_frequencies(method: CalibrationMethod) -> None:
    """Of the pairs given about p, about a share p is positive."""
    logits, gold = drawn(0.4, 0.0)
    probabilities = calibrate(logits, fit_calibration(logits, gold, method))

    for low in (0.2, 0.4, 0.6):
        near = (probabilities > low) & (probabilities < low + 0.2)
        assert gold[near].mean() == pytest.approx(probabilities[near].mean(), abs=0.03)


@EACH_METHOD
@pytest.mark.parametrize("value", [True, False])
def test_one_sided_gold_is_not_calibrated(value: bool, method: CalibrationMethod) -> None:
    """Where every pair, or none, is positive there is nothing to fit."""
    logits, _ = drawn(1, 0, rows=5)

    assert fit_calibration(logits, np.full((5, 3), value), method) == Calibration.none(3)


@EACH_METHOD
def test_order_is_never_turned_round(method: CalibrationMethod) -> None:
    """A model that is worse than chance is left as it is."""
    assert fit_calibration(*drawn(-1.0, 0.0), method) == Calibration.none(3)


@pytest.mark.parametrize("method", ["vector", "isotonic"])
def test_label_is_never_turned_round(method: CalibrationMethod) -> None:
    """A label that is worse than chance, among others that are not, keeps its order."""
    logits, gold = drawn(1.0, 0.0)
    gold[:, 1] = ~gold[:, 1]
    ordered = np.sort(logits, axis=0)
    found = calibrate(ordered, fit_calibration(logits, gold, method))

    assert (np.diff(found, axis=0) >= 0).all()
    assert found[-1, 1] > found[0, 1]


@pytest.mark.parametrize("method", ["temperature", "platt", "vector"])
@pytest.mark.parametrize("copies", [1, 20])
def test_separable_rows_have_a_finite_fit(method: CalibrationMethod, copies: int) -> None:
    """Perfectly separated rows give finite numbers and sure probabilities."""
    logits = np.array([[-3.0], [-2.0], [2.0], [3.0]] * copies, np.float32)
    found = fit_calibration(logits, logits > 0, method)

    assert np.isfinite([*found.scale, *found.bias]).all()
    assert ((calibrate(logits, found) > 0.99) == (logits > 0)).all()


@STEADY
@given(rows=scored_rows())
def test_any_rows_can_be_calibrated(rows: tuple[Floats, Bools]) -> None:
    """Ties, one row, one label: every method gives probabilities that keep the order."""
    logits, gold = 8 * rows[0] - 4, rows[1]
    ordered = np.sort(logits, axis=0)
    for method in METHODS:
        found = calibrate(ordered, fit_calibration(logits, gold, method))

        assert ((found >= 0) & (found <= 1)).all()
        assert (np.diff(found, axis=0) >= 0).all()


@EACH_METHOD
def test_cross_fitted_rows_have_no_say(method: CalibrationMethod) -> None:
    """Each row's probabilities are those of a fit to the other folds."""
    logits, gold = drawn(0.6, -1.0, rows=400)
    found = cross_fitted(logits, gold, method)

    for inside in each_fold(len(gold)):
        fitted = fit_calibration(logits[~inside], gold[~inside], method)
        assert found[inside].tobytes() == calibrate(logits[inside], fitted).tobytes()


@pytest.mark.parametrize(("scale", "bias"), [(1.0, 0.0), (0.5, 0.0), (0.5, -1.5)])
def test_auto_takes_the_lowest_cross_validated_loss(scale: float, bias: float) -> None:
    """The mean log loss of all pairs, each by a fit without its row."""
    logits, gold = drawn(scale, bias, rows=600)
    losses = {}
    for method in METHODS:
        probabilities = cross_fitted(logits, gold, method).astype(np.float64)
        losses[method] = -np.log(np.where(gold, probabilities, 1 - probabilities)).mean()
    best = min(losses, key=losses.__getitem__)

    assert choose_method(logits, gold) == best
    assert fit_calibration(logits, gold, "auto") == fit_calibration(logits, gold, best)


def test_auto_takes_a_curve_where_no_sigmoid_fits() -> None:
    """Gold that follows a step is worth the many numbers of an isotonic fit."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (2000, 2)).astype(np.float32)
    gold = rng.random(logits.shape) < np.where(logits > 1, 0.7, 0.3)

    assert choose_method(logits, gold) == "isotonic"


def test_auto_leaves_one_row_alone() -> None:
    """Where nothing can be compared, nothing is calibrated."""
    assert choose_method(np.zeros((1, 2), np.float32), np.array([[True, False]])) == "none"
