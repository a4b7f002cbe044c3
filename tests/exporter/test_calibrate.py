"""What calibration on held-out rows promises."""

import numpy as np
import numpy.typing as npt
import pytest

from exporter.calibrate import fit_calibration
from schemas.decision import Calibration, calibrate

Floats = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]


def drawn(scale: float, bias: float, *, rows: int = 4000) -> tuple[Floats, Bools]:
    """Logits, and gold drawn with probability sigmoid(scale * logit + bias)."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (rows, 3)).astype(np.float32)
    gold = rng.random((rows, 3)) < 1 / (1 + np.exp(-(scale * logits + bias)))
    return logits, gold


def test_known_scale_and_bias_are_found() -> None:
    """Where gold follows a scaled and shifted sigmoid, the fit finds it."""
    found = fit_calibration(*drawn(0.6, -1.0))

    assert found.method == "platt"
    assert found.scale == pytest.approx((0.6,) * 3, abs=0.03)
    assert found.bias == pytest.approx((-1.0,) * 3, abs=0.06)


def test_calibrated_probabilities_match_frequencies() -> None:
    """Of the pairs given about p, about a share p is positive."""
    logits, gold = drawn(0.4, 0.5)
    probabilities = calibrate(logits, fit_calibration(logits, gold))

    for low in (0.2, 0.4, 0.6):
        near = (probabilities > low) & (probabilities < low + 0.2)
        assert gold[near].mean() == pytest.approx(probabilities[near].mean(), abs=0.03)


@pytest.mark.parametrize("value", [True, False])
def test_one_sided_gold_is_not_calibrated(value: bool) -> None:
    """Where every pair, or none, is positive there is nothing to fit."""
    logits, _ = drawn(1, 0, rows=5)

    assert fit_calibration(logits, np.full((5, 3), value)) == Calibration.none(3)


def test_order_is_never_turned_round() -> None:
    """A model that is worse than chance is left as it is."""
    assert fit_calibration(*drawn(-1.0, 0.0)) == Calibration.none(3)


def test_separable_rows_have_a_finite_fit() -> None:
    """Perfectly separated rows give finite numbers and sure probabilities."""
    logits = np.array([[-3.0], [-2.0], [2.0], [3.0]], np.float32)
    found = fit_calibration(logits, logits > 0)

    assert np.isfinite([*found.scale, *found.bias]).all()
    assert ((calibrate(logits, found) > 0.99) == (logits > 0)).all()
