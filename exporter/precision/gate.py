"""The gate of reduced precision: what a variant costs on held-out texts, and if it may pass."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from batch.scoring.scorer import LogitRunner, load_tokenizer
from batch.scoring.session import TaskSession
from exporter.decision.fit import Decision, choose_decision
from schemas.arrays import BoolArray, Float32Array
from schemas.bundle.metadata import VariantCost, VariantFacts
from schemas.bundle.variants import DeviceKind
from schemas.config import DecisionConfig
from schemas.decision.decide import calibrate, decide
from schemas.decision.metrics import Hits
from schemas.text.tokens import TokenizedText

MAX_CHANGED_ARTICLES = 0.015
"""Largest share of the texts whose set of labels may differ from that of fp32."""
WANTED_CHANGED_ARTICLES = 0.005
"""Share that products are left in bf16 for."""
MAX_F1_LOSS = 0.003
"""Largest loss of micro- or macro-F1."""
TIMED_TEXTS = 256


@dataclass(frozen=True)
class Reference:
    """What fp32 says of a task's held-out texts. logits, gold: (rows, labels).

    tokenizer_json: content of that file.
    """

    texts: list[TokenizedText]
    gold: BoolArray
    logits: Float32Array
    config: DecisionConfig
    decision: Decision
    tokenizer_json: bytes
    max_tokens: int
    pad_id: int

    def runner(self, session: TaskSession) -> LogitRunner:
        """Run the same texts by another session."""
        tokenizer = load_tokenizer(self.tokenizer_json, "tokenizer.json")
        return LogitRunner(session, tokenizer, max_tokens=self.max_tokens, pad_id=self.pad_id)

    @property
    def decided(self) -> BoolArray:
        """Labels of each text by fp32, (rows, labels)."""
        probabilities = calibrate(self.logits, self.decision.calibration)
        return decide(probabilities, self.decision.thresholds)


def fit_variant(
    reference: Reference,
    logits: Float32Array,
    *,
    kept: tuple[str, ...] = (),
    device: DeviceKind = "cpu",
) -> VariantFacts:
    """Choose calibration and thresholds of a variant on its own logits, and measure its cost.

    A threshold moves only where that gains F1: the best place of a step function jumps when a logit
    moves a little, and would give articles other labels for nothing. The cross-validated score is
    that of thresholds chosen afresh in each fold.
    logits: (rows, labels), of the reference's texts. kept: products that were left in a higher
    precision. device: that ran it.
    """
    own = choose_decision(logits, reference.gold, reference.config)
    probabilities = calibrate(logits, own.calibration)
    thresholds = _settled(own.thresholds, probabilities, reference)
    decided = decide(probabilities, thresholds)
    changed = decided != reference.decided
    drift = np.abs(
        calibrate(logits, reference.decision.calibration)
        - calibrate(reference.logits, reference.decision.calibration)
    )
    before, after = reference.decision.validation, Hits.count(reference.gold, decided).scores()
    return VariantFacts(
        thresholds=tuple(thresholds.tolist()),
        calibration=own.calibration,
        decision=own.facts,
        validation=after,
        cross_validated=own.cross_validated,
        cost=VariantCost(
            texts=len(logits),
            drift_max=float(drift.max()),
            drift_mean=float(drift.mean()),
            changed_decisions=float(changed.mean()),
            changed_articles=float(changed.any(axis=1).mean()),
            micro_f1_before=before.micro_f1,
            micro_f1_after=after.micro_f1,
            macro_f1_before=before.macro_f1,
            macro_f1_after=after.macro_f1,
            kept=kept,
            device=device,
        ),
    )


def _settled(
    thresholds: Float32Array, probabilities: Float32Array, reference: Reference
) -> Float32Array:
    """Those of fp32 instead of the given ones, where they decide the variant's texts as well.

    thresholds: (labels,), chosen on `probabilities`, (rows, labels). A rule that asks for something
    other than F1 has the last word.
    """
    rule, gold, before = reference.config.thresholds, reference.gold, reference.decision.thresholds
    if rule.objective not in ("f1", "macro_f1"):
        return thresholds
    chosen, kept = (Hits.count(gold, decide(probabilities, each)) for each in (thresholds, before))
    if rule.strategy != "global":
        return np.where(kept.label_f1() >= chosen.label_f1(), before, thresholds)
    measure = "micro_f1" if rule.objective == "f1" else "macro_f1"
    as_good = getattr(kept.scores(), measure) >= getattr(chosen.scores(), measure)
    return before if as_good else thresholds


def gate(cost: VariantCost) -> str | None:
    """Why a variant may not be published, or None if it passes."""
    if cost.changed_articles > MAX_CHANGED_ARTICLES:
        return (
            f"it changes the labels of {cost.changed_articles:.2%} of the texts, at most "
            f"{MAX_CHANGED_ARTICLES:.1%} may"
        )
    for name in ("micro", "macro"):
        before, after = (getattr(cost, f"{name}_f1_{when}") for when in ("before", "after"))
        if before - after > MAX_F1_LOSS:
            return (
                f"{name}-F1 falls from {before:.4f} to {after:.4f}, by {MAX_F1_LOSS:.3f} at most "
                "it may"
            )
    return None


def tokens_per_s(runner: LogitRunner, texts: list[TokenizedText]) -> float:
    """Speed of a runner on some of the texts, the second time it sees their shapes."""
    some = texts[:TIMED_TEXTS]
    runner.logits(some)
    started = time.perf_counter()
    runner.logits(some)
    return sum(len(text.ids) for text in some) / (time.perf_counter() - started)
