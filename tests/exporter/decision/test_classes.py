"""What calibration of classes on held-out rows promises."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
from sklearn.metrics import log_loss

from exporter.decision.classes import (
    choose_class_decision,
    choose_class_method,
    cross_fitted_classes,
    fit_class_calibration,
)
from schemas.arrays import Float32Array, Int64Array
from schemas.decision.classes import (
    ClassCalibrationMethod,
    ClassDecisionConfig,
    class_probabilities,
    softmax,
)
from schemas.decision.thresholds import each_fold

METHODS: tuple[ClassCalibrationMethod, ...] = get_args(ClassCalibrationMethod)


def drawn(
    scale: float | list[float], bias: list[float] | None = None, *, rows: int = 6000
) -> tuple[Float32Array, Int64Array]:
    """Logits of three classes, and gold drawn from softmax(scale * logits + bias)."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (rows, 3)).astype(np.float32)
    probabilities = softmax(logits * np.asarray(scale, np.float64) + np.asarray(bias or 0.0))
    gold = (rng.random((rows, 1)) > probabilities.cumsum(axis=1)).sum(axis=1)
    return logits, np.minimum(gold, 2).astype(np.int64)


def test_known_temperature_is_found() -> None:
    """Where gold follows a scaled softmax, the fit finds the scale."""
    calibration = fit_class_calibration(*drawn(0.5), "temperature")

    assert calibration.scale == pytest.approx((0.5,) * 3, abs=0.02)
    assert calibration.bias == (0.0,) * 3


def test_vector_finds_scale_and_bias_of_each_class() -> None:
    """Up to one number that all biases share, which the softmax does not see."""
    bias = [0.8, 0.0, -0.8]
    calibration = fit_class_calibration(*drawn([0.5, 1.0, 0.7], bias), "vector")
    shifted = np.array(calibration.bias) - np.mean(calibration.bias)

    assert calibration.scale == pytest.approx((0.5, 1.0, 0.7), abs=0.06)
    assert shifted.tolist() == pytest.approx(bias, abs=0.08)


@pytest.mark.parametrize("method", ["temperature", "vector"])
def test_separable_rows_have_finite_numbers(method: ClassCalibrationMethod) -> None:
    """Where no probability is too high for the rows, the penalty keeps it below 1."""
    gold = np.array([0, 1, 2] * 20, np.int64)
    logits = (np.eye(3)[gold] * 4).astype(np.float32)
    calibration = fit_class_calibration(logits, gold, method)

    assert np.isfinite([*calibration.scale, *calibration.bias]).all()
    assert class_probabilities(logits, calibration).max() < 1.0


@pytest.mark.parametrize("method", METHODS)
def test_a_class_without_rows_keeps_a_finite_bias(method: ClassCalibrationMethod) -> None:
    """Ten rows of two of three classes are enough for a fit."""
    logits, gold = drawn(1.0, rows=10)
    gold = np.minimum(gold, 1)
    calibration = fit_class_calibration(logits, gold, method)

    assert calibration.method == method
    assert np.isfinite(calibration.bias).all()


def test_calibration_lowers_the_log_loss() -> None:
    """Overconfident logits are calibrated, cross-validated."""
    logits, gold = drawn(0.4)
    losses = [log_loss(gold, cross_fitted_classes(logits, gold, method)) for method in METHODS]

    assert losses[0] > losses[1] + 0.1
    assert losses[2] == pytest.approx(losses[1], abs=0.01)


@pytest.mark.parametrize(
    ("scale", "bias", "method"),
    [(1.0, None, "none"), (0.5, None, "temperature"), ([1.0] * 3, [2.0, 0.0, -2.0], "vector")],
)
def test_auto_takes_the_method_that_fits(
    scale: float | list[float], bias: list[float] | None, method: ClassCalibrationMethod
) -> None:
    """The lowest cross-validated log loss; `none` where nothing is to be calibrated."""
    chosen = choose_class_method(*drawn(scale, bias, rows=20_000))

    assert chosen == method or (method == "none" and chosen == "temperature")


def test_no_row_is_calibrated_by_itself() -> None:
    """Changing the gold of one fold leaves the probabilities of that fold as they are."""
    logits, gold = drawn(0.7, rows=60)
    inside = next(iter(each_fold(60)))
    changed = np.where(inside, (gold + 1) % 3, gold)
    before, after = (cross_fitted_classes(logits, one, "vector") for one in (gold, changed))

    assert (before[inside] == after[inside]).all()
    assert not (before[~inside] == after[~inside]).all()


def test_evidence_says_what_was_measured() -> None:
    """Held-out rows by class, and a calibration error that went down."""
    logits, gold = drawn(0.4)
    config = ClassDecisionConfig(calibration="auto", least_probability=0.4)
    fit = choose_class_decision(logits, gold, config)

    assert fit.evidence.positives == tuple(np.bincount(gold).tolist())
    assert np.mean(fit.evidence.after.ece) < np.mean(fit.evidence.before.ece) / 2
    assert fit.decision.least_probability == 0.4
    assert fit.validation.accuracy == pytest.approx(fit.cross_validated.accuracy, abs=0.01)
    assert choose_class_decision(logits, gold, config).decision == fit.decision
