"""Fitting the calibration of classes that exclude each other, and measuring what it is worth."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import get_args

import numpy as np
from scipy.optimize import minimize

from exporter.decision.reliability import calibration_error
from schemas.arrays import Float32Array, Float64Array, Int64Array
from schemas.decision.classes import (
    ClassCalibration,
    ClassCalibrationChoice,
    ClassCalibrationMethod,
    ClassDecision,
    ClassDecisionConfig,
    ClassDecisionEvidence,
    ClassScores,
    Confusion,
    class_probabilities,
    decide_class,
    softmax,
)
from schemas.decision.thresholds import each_fold
from schemas.kinds.multiclass import one_hot

log = logging.getLogger(__name__)

PENALTY = 1e-3
"""Weight of the squared distance from scale 1 and bias 0, beside the mean log loss: just enough
that separable rows have a finite scale, and that a class without rows keeps a finite bias."""


@dataclass(frozen=True)
class ClassFit:
    """How a task decides, and the evidence for it.

    validation: scores on the rows that the calibration was fitted to.
    cross_validated: scores where each row was decided by a calibration fitted without it.
    before, after: (rows, classes) float32, the softmax of the logits, and probabilities of each row
    by a calibration fitted without it.
    """

    decision: ClassDecision
    evidence: ClassDecisionEvidence
    validation: ClassScores
    cross_validated: ClassScores
    before: Float32Array
    after: Float32Array


def choose_class_decision(
    logits: Float32Array, gold: Int64Array, config: ClassDecisionConfig
) -> ClassFit:
    """Fit and measure. Deterministic.

    logits: (rows, classes) float32 of held-out texts. gold: (rows,) int64.
    """
    classes = logits.shape[1]
    calibration = fit_class_calibration(logits, gold, config.calibration)
    decision = ClassDecision(calibration=calibration, least_probability=config.least_probability)
    before = class_probabilities(logits, ClassCalibration.none(classes))
    after = cross_fitted_classes(logits, gold, calibration.method)
    targets = one_hot(gold, classes)

    def scores(probabilities: Float32Array) -> ClassScores:
        decided = decide_class(probabilities, config.least_probability)
        return Confusion.count(gold, decided, classes).scores()

    return ClassFit(
        decision=decision,
        evidence=ClassDecisionEvidence(
            calibration=config.calibration,
            positives=tuple(targets.sum(axis=0).tolist()),
            before=calibration_error(before, targets),
            after=calibration_error(after, targets),
        ),
        validation=scores(class_probabilities(logits, calibration)),
        cross_validated=scores(after),
        before=before,
        after=after,
    )


def fit_class_calibration(
    logits: Float32Array, gold: Int64Array, method: ClassCalibrationChoice
) -> ClassCalibration:
    """Fit a calibration to held-out rows by maximum likelihood, with a weak penalty.

    logits: (rows, classes) float32. gold: (rows,) int64.
    """
    classes = logits.shape[1]
    chosen = choose_class_method(logits, gold) if method == "auto" else method
    if chosen == "none" or not len(gold):
        return ClassCalibration.none(classes)
    scale, bias = _fit(logits.astype(np.float64), gold, is_vector=chosen == "vector")
    return ClassCalibration(method=chosen, scale=tuple(scale.tolist()), bias=tuple(bias.tolist()))


def choose_class_method(logits: Float32Array, gold: Int64Array) -> ClassCalibrationMethod:
    """The method with the lowest cross-validated log loss; of equals the one with fewer numbers."""
    methods: tuple[ClassCalibrationMethod, ...] = get_args(ClassCalibrationMethod)
    losses = {}
    for method in methods:
        probabilities = cross_fitted_classes(logits, gold, method).astype(np.float64)
        of_gold = probabilities[np.arange(len(gold)), gold]
        losses[method] = float(-np.log(np.maximum(of_gold, np.finfo(np.float32).tiny)).mean())
    shown = ", ".join(f"{method} {loss:.5f}" for method, loss in losses.items())
    log.info("calibration: cross-validated log loss %s", shown)
    return min(methods, key=losses.__getitem__)


def cross_fitted_classes(
    logits: Float32Array, gold: Int64Array, method: ClassCalibrationMethod
) -> Float32Array:
    """Probabilities of every row by a fit to the other folds only, (rows, classes) float32."""
    probabilities = np.zeros(logits.shape, dtype=np.float32)
    for inside in each_fold(len(gold)):
        fitted = fit_class_calibration(logits[~inside], gold[~inside], method)
        probabilities[inside] = class_probabilities(logits[inside], fitted)
    return probabilities


def _fit(
    logits: Float64Array, gold: Int64Array, *, is_vector: bool
) -> tuple[Float64Array, Float64Array]:
    """Scale and bias of each class, (classes,) float64 each; the scale is exp of a free number."""
    rows, classes = logits.shape
    targets = one_hot(gold, classes).astype(np.float64)
    width = classes if is_vector else 1

    def unpack(numbers: Float64Array) -> tuple[Float64Array, Float64Array]:
        scale = np.broadcast_to(np.exp(numbers[:width]), (classes,))
        return scale, numbers[width:] if is_vector else np.zeros(classes)

    def loss(numbers: Float64Array) -> tuple[float, Float64Array]:
        scale, bias = unpack(numbers)
        probabilities = softmax(logits * scale + bias)
        of_gold = (probabilities * targets).sum(axis=1)
        value = -np.log(np.maximum(of_gold, np.finfo(np.float64).tiny)).mean()
        difference = (probabilities - targets) / rows
        by_scale = (difference * logits).sum(axis=0) * scale
        gradient = [by_scale if is_vector else by_scale.sum(keepdims=True)]
        if is_vector:
            gradient.append(difference.sum(axis=0))
        penalty = PENALTY * numbers
        return float(value + (penalty * numbers).sum() / 2), np.concatenate(gradient) + penalty

    start = np.zeros(2 * classes if is_vector else 1)
    result = minimize(loss, start, jac=True, method="L-BFGS-B")
    scale, bias = unpack(np.asarray(result.x))
    return np.array(scale), np.array(bias)
