"""What decides the labels of a reduced precision."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from exporter.kinds import EXPORTER_KINDS
from exporter.kinds.base import LabelledOutputs
from exporter.precision.gate import Reference, fit_variant
from schemas.arrays import BoolArray, Float32Array
from schemas.bundle.metadata import VariantFacts
from schemas.decision.decide import calibrate, decide
from schemas.decision.metrics import Hits
from schemas.decision.settings import DecisionConfig
from schemas.decision.thresholds import ThresholdRule
from schemas.kinds import KINDS
from schemas.kinds.multilabel import MultilabelDecision
from tests.label_tasks import KIND, decision_of


def reference(logits: Float32Array, gold: BoolArray, **rule: Any) -> Reference:
    """Held-out texts of which only logits and gold labels matter."""
    config = DecisionConfig(thresholds=ThresholdRule(**rule))
    labels = tuple(f"label {number}" for number in range(gold.shape[1]))
    rows = LabelledOutputs(labels, [], list(logits), gold)
    fitted = EXPORTER_KINDS[KIND].fit(rows, config)
    output = KINDS[KIND].output(len(labels))
    return Reference("topics", KIND, rows, config, fitted, output, b"", max_tokens=8, pad_id=0)


def fp32_decision(reference: Reference) -> MultilabelDecision:
    """Thresholds and calibration of fp32."""
    assert isinstance(reference.fitted.decision, MultilabelDecision)
    return reference.fitted.decision


def variant_of(reference: Reference, logits: Float32Array) -> tuple[VariantFacts, Float32Array]:
    """Facts of a variant with these logits, and its calibrated probabilities, (rows, labels)."""
    facts = fit_variant(reference, list(logits))
    return facts, calibrate(logits, decision_of(facts).calibration)


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
    variant, probabilities = variant_of(plain, noisy)

    before, after = (one.threshold_array for one in (fp32_decision(plain), decision_of(variant)))
    f1_before, f1_after = (
        Hits.count(gold, decide(probabilities, thresholds)).label_f1()
        for thresholds in (before, after)
    )
    assert ((after == before) | (f1_after > f1_before)).all()
    unchanged, _ = variant_of(plain, logits)
    assert decision_of(unchanged).thresholds == fp32_decision(plain).thresholds


@pytest.mark.parametrize(("objective", "measure"), [("f1", "micro_f1"), ("macro_f1", "macro_f1")])
def test_the_one_threshold_of_a_task_moves_only_where_that_gains(
    objective: Any, measure: str
) -> None:
    """It stays one for all labels."""
    logits, gold = some_logits()
    plain = reference(logits, gold, strategy="global", objective=objective)
    noise = np.random.default_rng(4).normal(scale=0.3, size=logits.shape)
    noisy = (logits + noise).astype(np.float32)
    variant, probabilities = variant_of(plain, noisy)
    before, after = fp32_decision(plain), decision_of(variant)

    decided = decide(probabilities, before.threshold_array)
    score_before = getattr(Hits.count(gold, decided).scores(), measure)
    assert len(set(after.thresholds)) == 1
    assert (
        getattr(variant.validation, measure) > score_before or after.thresholds == before.thresholds
    )


def test_thresholds_of_a_variant_follow_logits_that_lie_elsewhere() -> None:
    """Those of fp32 would refuse everything."""
    logits, gold = some_logits()
    plain = reference(logits, gold, strategy="per_label")
    uncalibrated = DecisionConfig(
        calibration="none", thresholds=ThresholdRule(strategy="per_label")
    )
    lower = (logits - 5.0).astype(np.float32)
    variant, _ = variant_of(replace(plain, config=uncalibrated), lower)

    before, after = fp32_decision(plain), decision_of(variant)
    assert (np.asarray(after.thresholds) < before.threshold_array).all()
    scores = [facts.validation.headline() for facts in (variant, plain.fitted)]
    assert scores[0]["macro_f1"] == pytest.approx(scores[1]["macro_f1"])


def test_a_rule_that_asks_for_something_else_has_the_last_word() -> None:
    """A floor holds on the variant's own probabilities."""
    logits, gold = some_logits()
    plain = reference(logits, gold, strategy="per_label", objective="recall_floor", floor=0.9)
    noise = np.random.default_rng(4).normal(scale=0.3, size=logits.shape)
    noisy = (logits + noise).astype(np.float32)
    variant, probabilities = variant_of(plain, noisy)
    decided = decide(probabilities, decision_of(variant).threshold_array)

    assert (Hits.count(gold, decided).label_recall() >= 0.9).all()


@pytest.mark.parametrize("objective", ["f1", "recall_floor"])
def test_a_variant_keeps_the_parents_and_decides_by_them(objective: Any) -> None:
    """Its scores are those of consistent answers, by level too."""
    logits, gold = some_logits()
    gold[:, 0] |= gold[:, 2] | gold[:, 3]
    parents = {"label 2": "label 0", "label 3": "label 0"}
    flat = reference(logits, gold, objective=objective)
    rows = replace(flat.rows, parents=parents)
    plain = replace(flat, rows=rows, fitted=EXPORTER_KINDS[KIND].fit(rows, flat.config))
    noise = np.random.default_rng(4).normal(scale=0.05, size=logits.shape)
    noisy = (logits + noise).astype(np.float32)
    facts, _ = variant_of(plain, noisy)
    answers = KINDS[KIND].decide(list(noisy), rows.labels, decision_of(facts), [])

    assert fp32_decision(plain).parents == decision_of(facts).parents == parents
    assert facts.validation == KINDS[KIND].compare(gold, answers).scores()
    assert "levels" in facts.cross_validated.model_dump()
    assert (answers.decided[:, 0] >= answers.decided[:, 2]).all()
