"""What decides the labels of a reduced precision."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from exporter.decision.fit import choose_decision
from exporter.precision.gate import Reference, fit_variant
from schemas.arrays import BoolArray, Float32Array
from schemas.decision.decide import calibrate, decide
from schemas.decision.metrics import Hits
from schemas.decision.settings import DecisionConfig
from schemas.decision.thresholds import ThresholdRule


def reference(logits: Float32Array, gold: BoolArray, **rule: Any) -> Reference:
    """Held-out texts of which only logits and gold labels matter."""
    config = DecisionConfig(thresholds=ThresholdRule(**rule))
    decision = choose_decision(logits, gold, config)
    return Reference([], gold, logits, config, decision, b"", max_tokens=8, pad_id=0)


def some_logits() -> tuple[Float32Array, BoolArray]:
    """Logits of 200 texts and four labels, right more often than not."""
    rng = np.random.default_rng(3)
    gold = rng.random((200, 4)) < (0.4, 0.2, 0.1, 0.05)
    return (2.0 * gold - 1.5 + rng.normal(size=gold.shape)).astype(np.float32), gold


@pytest.mark.parametrize("strategy", ["per_label", "shrunk"])
def test_thresholds_of_a_variant_move_only_where_that_gains(strategy: Any) -> None:
    """No label is decided worse than by those of fp32, and one that gains nothing keeps its own."""
    logits, gold = some_logits()
    plain = reference(logits, gold, strategy=strategy)
    noise = np.random.default_rng(4).normal(scale=0.05, size=logits.shape)
    noisy = (logits + noise).astype(np.float32)
    found = fit_variant(plain, noisy)

    probabilities = calibrate(noisy, found.calibration)
    kept, moved = (
        Hits.count(gold, decide(probabilities, np.asarray(each, np.float32))).label_f1()
        for each in (plain.decision.thresholds, found.thresholds)
    )
    same = np.asarray(found.thresholds, np.float32) == plain.decision.thresholds
    assert (same | (moved > kept)).all()
    assert fit_variant(plain, logits).thresholds == tuple(plain.decision.thresholds.tolist())


@pytest.mark.parametrize(("objective", "measure"), [("f1", "micro_f1"), ("macro_f1", "macro_f1")])
def test_the_one_threshold_of_a_task_moves_only_where_that_gains(
    objective: Any, measure: str
) -> None:
    """It stays one for all labels."""
    logits, gold = some_logits()
    plain = reference(logits, gold, strategy="global", objective=objective)
    noise = np.random.default_rng(4).normal(scale=0.3, size=logits.shape)
    noisy = (logits + noise).astype(np.float32)
    found = fit_variant(plain, noisy)
    before = plain.decision.thresholds

    decided = decide(calibrate(noisy, found.calibration), before)
    kept = getattr(Hits.count(gold, decided).scores(), measure)
    gained = getattr(found.validation, measure) > kept
    assert len(set(found.thresholds)) == 1
    assert gained or found.thresholds == tuple(before.tolist())


def test_thresholds_of_a_variant_follow_logits_that_lie_elsewhere() -> None:
    """Those of fp32 would refuse everything."""
    logits, gold = some_logits()
    plain = reference(logits, gold, strategy="per_label")
    uncalibrated = DecisionConfig(calibration="none", thresholds=plain.config.thresholds)
    found = fit_variant(replace(plain, config=uncalibrated), logits - 5.0)

    assert (np.asarray(found.thresholds) < plain.decision.thresholds).all()
    assert found.validation.macro_f1 == pytest.approx(plain.decision.validation.macro_f1)


def test_a_rule_that_asks_for_something_else_has_the_last_word() -> None:
    """A floor holds on the variant's own probabilities."""
    logits, gold = some_logits()
    plain = reference(logits, gold, strategy="per_label", objective="recall_floor", floor=0.9)
    noise = np.random.default_rng(4).normal(scale=0.3, size=logits.shape)
    noisy = (logits + noise).astype(np.float32)
    found = fit_variant(plain, noisy)
    decided = decide(calibrate(noisy, found.calibration), np.asarray(found.thresholds, np.float32))

    assert (Hits.count(gold, decided).label_recall() >= 0.9).all()
