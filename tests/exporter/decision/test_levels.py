"""What is fitted for two-level labels is fitted to the probabilities that answers have."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from exporter.decision.calibration import cross_fitted
from exporter.decision.fit import choose_decision
from exporter.decision.reliability import calibration_error
from schemas.arrays import BoolArray, Float32Array
from schemas.decision.decide import calibrate
from schemas.decision.levels import LabelTree
from schemas.decision.metrics import Hits
from schemas.decision.set_rule import SetRule
from schemas.decision.settings import DecisionConfig
from schemas.decision.thresholds import ThresholdRule, find_thresholds, held_out_decisions
from schemas.kinds.multilabel import MultilabelDecision, MultilabelKind

LABELS = ("coarse", "one", "two", "flat")
PARENTS = {"one": "coarse", "two": "coarse"}
TREE = LabelTree.of(LABELS, PARENTS)


def held_out() -> tuple[Float32Array, BoolArray]:
    """Logits of 120 texts, where those of the coarse label say nothing, and complete gold."""
    rng = np.random.default_rng(5)
    gold = rng.random((120, 4)) < (0.1, 0.3, 0.2, 0.3)
    gold[:, 0] |= gold[:, 1] | gold[:, 2]
    noise = rng.normal(size=gold.shape)
    return (gold * (0.0, 3.0, 3.0, 3.0) - 1.5 + noise).astype(np.float32), gold


@pytest.mark.parametrize("calibration", ["platt", "vector", "isotonic", "auto"])
def test_thresholds_and_scores_are_of_the_probabilities_that_decide(calibration: Any) -> None:
    """Thresholds, intervals and scores: on a coarse label raised to its fine ones."""
    logits, gold = held_out()
    rule = ThresholdRule(strategy="per_label")
    chosen = choose_decision(
        logits, gold, DecisionConfig(calibration=calibration, thresholds=rule), SetRule(TREE)
    )
    probabilities = TREE.probabilities(calibrate(logits, chosen.calibration))
    decision = MultilabelDecision(
        thresholds=tuple(chosen.thresholds.tolist()),
        calibration=chosen.calibration,
        parents=PARENTS,
    )
    answers = MultilabelKind().decide(list(logits), LABELS, decision, [])

    assert chosen.thresholds.tolist() == find_thresholds(probabilities, gold, rule).tolist()
    assert answers.probabilities.tobytes() == probabilities.tobytes()
    assert chosen.validation == Hits.count(gold, answers.decided, TREE).scores()
    assert chosen.validation.levels is not None


def test_cross_validated_scores_are_of_consistent_answers() -> None:
    """Each row is decided by a fit without it, and then by the same rule for coarse labels."""
    logits, gold = held_out()
    config = DecisionConfig()
    chosen = choose_decision(logits, gold, config, SetRule(TREE))
    after = TREE.probabilities(cross_fitted(logits, gold, chosen.calibration.method))
    decided = TREE.decisions(held_out_decisions(after, gold, config.thresholds))

    assert chosen.cross_validated == Hits.count(gold, decided, TREE).scores()
    assert chosen.evidence.after == calibration_error(after, gold)


def test_fine_labels_help_their_coarse_one() -> None:
    """Where the logits of a coarse label say nothing, those of its fine labels still decide."""
    logits, gold = held_out()
    alone, together = (
        choose_decision(logits, gold, DecisionConfig(), SetRule(tree))
        for tree in (LabelTree(), TREE)
    )

    assert together.cross_validated.micro_f1 > alone.cross_validated.micro_f1 + 0.02
