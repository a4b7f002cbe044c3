"""Choosing calibration and thresholds on held-out rows, and measuring what they are worth."""

from __future__ import annotations

from dataclasses import dataclass

from exporter.decision.calibration import cross_fitted, fit_calibration
from exporter.decision.reliability import calibration_error
from schemas.arrays import BoolArray, Float32Array
from schemas.decision.decide import Calibration, calibrate
from schemas.decision.metrics import Hits, LabelScores
from schemas.decision.set_rule import ANY_SET, SetRule
from schemas.decision.settings import DecisionConfig, DecisionEvidence
from schemas.decision.thresholds import find_thresholds, held_out_decisions, threshold_intervals

CONFIDENCE = 0.95


@dataclass(frozen=True)
class LabelDecision:
    """How a task decides, and the evidence for it.

    thresholds: (labels,) float32.
    validation: scores on the rows that everything was chosen on.
    cross_validated: scores where each row was decided by calibration and thresholds without it.
    before, after: (rows, labels) float32, the sigmoid of the logits, and probabilities of each row
    by a calibration fitted without it.
    """

    calibration: Calibration
    thresholds: Float32Array
    evidence: DecisionEvidence
    validation: LabelScores
    cross_validated: LabelScores
    before: Float32Array
    after: Float32Array


def choose_decision(
    logits: Float32Array,
    gold: BoolArray,
    config: DecisionConfig,
    sets: SetRule = ANY_SET,
) -> LabelDecision:
    """Fit and measure. Deterministic; logits, gold: (rows, labels), those of held-out texts.

    sets: limits and levels of the labels, which thresholds are chosen without; scores are of whole
    label sets. Calibration is fitted to the logits of each label;
    thresholds are chosen, and everything is measured, on the probabilities that answers have: those
    of coarse labels are never below those of their fine ones.
    The cross-validated score takes the method of calibration as given, even where `auto` chose it
    on all rows: one choice between five can hardly fit the rows by chance.
    """
    rule, tree = config.thresholds, sets.tree
    calibration = fit_calibration(logits, gold, config.calibration, tree)
    probabilities = tree.probabilities(calibrate(logits, calibration))
    thresholds = find_thresholds(probabilities, gold, rule)
    intervals = threshold_intervals(probabilities, gold, rule, confidence=CONFIDENCE)
    before = tree.probabilities(calibrate(logits, Calibration.none(gold.shape[1])))
    after = cross_fitted(logits, gold, calibration.method, tree)
    decided = sets.decide(probabilities, thresholds)
    cross_validated = sets.complete(held_out_decisions(after, gold, rule), after)
    return LabelDecision(
        calibration=calibration,
        thresholds=thresholds,
        evidence=DecisionEvidence(
            calibration=config.calibration,
            thresholds=rule,
            confidence=CONFIDENCE,
            intervals=tuple((float(low), float(high)) for low, high in intervals),
            positives=tuple(gold.sum(axis=0).tolist()),
            before=calibration_error(before, gold),
            after=calibration_error(after, gold),
        ),
        validation=Hits.count(gold, decided, tree).scores(),
        cross_validated=Hits.count(gold, cross_validated, tree).scores(),
        before=before,
        after=after,
    )
