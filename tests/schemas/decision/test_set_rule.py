"""What limits on the number of labels promise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from schemas.decision.decide import Calibration, decide
from schemas.decision.levels import LabelTree
from schemas.decision.set_rule import SetRule
from schemas.decision.settings import DecisionConfig
from schemas.kinds.multilabel import MultilabelDecision, MultilabelKind
from tests.strategies import STEADY, Bools, Floats, scored_rows

LABELS = ("energy", "oil", "gas", "grain", "wheat")
PARENTS = {"oil": "energy", "gas": "energy", "wheat": "grain"}


def sized(probabilities: Floats, threshold: float, fewest: int, most: int) -> Bools:
    """Decisions of labels of one level at one threshold."""
    thresholds = np.full(probabilities.shape[1], threshold, np.float32)
    return SetRule(fewest=fewest, most=most).decide(probabilities, thresholds)


@STEADY
@given(
    rows=scored_rows(),
    threshold=st.floats(0, 1, width=32),
    fewest=st.integers(0, 3),
    more=st.none() | st.integers(0, 3),
)
def test_the_most_probable_labels_are_decided(
    rows: tuple[Floats, Bools], threshold: float, fewest: int, more: int | None
) -> None:
    """A row has as many labels as reach the threshold, within the limits, and none of the others is
    more probable than one of them.
    """
    probabilities, _ = rows
    most = 0 if more is None else fewest + more
    decided = sized(probabilities, threshold, fewest, most)

    reached = (probabilities >= np.float32(threshold)).sum(axis=1)
    possible = min(fewest, probabilities.shape[1])
    assert decided.sum(axis=1).tolist() == np.clip(reached, possible, most or None).tolist()
    for row, labels in zip(probabilities, decided, strict=True):
        if labels.any() and not labels.all():
            assert row[labels].min() >= row[~labels].max()


@STEADY
@given(rows=scored_rows(), threshold=st.floats(0, 1, width=32))
def test_without_limits_thresholds_decide(rows: tuple[Floats, Bools], threshold: float) -> None:
    """The default adds nothing and takes nothing away."""
    probabilities, _ = rows
    thresholds = np.full(probabilities.shape[1], threshold, np.float32)

    assert (sized(probabilities, threshold, 0, 0) == decide(probabilities, thresholds)).all()


def test_earlier_labels_come_first_among_equals() -> None:
    """Equal probabilities are decided the same way on every machine."""
    equal = np.full((2, 4), 0.5, np.float32)

    assert sized(equal, 0.9, 2, 0).tolist() == [[True, True, False, False]] * 2
    assert sized(equal, 0.1, 0, 3).tolist() == [[True, True, True, False]] * 2


def test_a_label_that_reaches_its_threshold_comes_before_a_more_probable_one() -> None:
    """Labels that reach their own threshold are first, unless all rows have as many labels."""
    probabilities = np.array([[0.3, 0.6]], np.float32)
    thresholds = np.array([0.2, 0.7], np.float32)

    assert SetRule(most=1).decide(probabilities, thresholds).tolist() == [[True, False]]
    assert SetRule(fewest=2).decide(probabilities, thresholds).tolist() == [[True, True]]
    exact = SetRule(fewest=1, most=1).decide(probabilities, thresholds)
    assert exact.tolist() == [[False, True]]


def test_coarse_labels_alone_need_no_fine_one() -> None:
    """A maximum removes no coarse label that was decided by itself, where rows may be without a
    label, but does not leave one whose fine label was removed.
    """
    tree = LabelTree.of(LABELS, PARENTS)
    probabilities = np.array([[0.9, 0.1, 0.1, 0.6, 0.8], [0.9, 0.8, 0.1, 0.6, 0.7]], np.float32)
    thresholds = np.full(len(LABELS), 0.5, np.float32)

    assert SetRule(tree, most=1).decide(probabilities, thresholds).tolist() == [
        [True, False, False, True, True],
        [True, True, False, False, False],
    ]


def test_fine_labels_are_counted_and_coarse_ones_follow() -> None:
    """With one label a row, the coarse label is that of the fine one, whatever its own logit."""
    outputs = np.array([[9, -2, -1, 3, -3], [-9, -9, -9, -9, 4]], np.float32)
    decision = MultilabelDecision(
        thresholds=(0.5,) * len(LABELS),
        calibration=Calibration.none(len(LABELS)),
        parents=PARENTS,
        fewest_labels=1,
        most_labels=1,
    )
    MultilabelKind().check(LABELS, decision)
    answers = MultilabelKind().decide(list(outputs), LABELS, decision, [])

    assert [answer.labels for answer in answers.answers()] == [
        ("energy", "gas"),
        ("grain", "wheat"),
    ]


@STEADY
@given(rows=scored_rows(), threshold=st.floats(0, 1, width=32))
def test_a_row_does_not_depend_on_other_rows(rows: tuple[Floats, Bools], threshold: float) -> None:
    """Alone or among others, a row has the same labels."""
    probabilities, _ = rows
    together = sized(probabilities, threshold, 1, 2)
    alone = [sized(row[None], threshold, 1, 2)[0] for row in probabilities]

    assert (together == np.array(alone)).all()


def test_impossible_limits_are_refused() -> None:
    """A minimum above the maximum, or above the number of labels."""
    with pytest.raises(ValidationError, match="most_labels is 1, less than fewest_labels, 2"):
        DecisionConfig(fewest_labels=2, most_labels=1)
    decision = MultilabelDecision(
        thresholds=(0.5,) * len(LABELS),
        calibration=Calibration.none(len(LABELS)),
        parents=PARENTS,
        fewest_labels=4,
    )
    with pytest.raises(ValueError, match="fewest_labels is 4, but the task has 3 labels"):
        MultilabelKind().check(LABELS, decision)


def test_levels_alone_change_nothing() -> None:
    """Without limits, the rule is that of two-level labels."""
    tree = LabelTree.of(LABELS, PARENTS)
    probabilities = np.array([[0.9, 0.1, 0.1, 0.1, 0.8]], np.float32)

    decided = SetRule(tree).decide(probabilities, np.full(len(LABELS), 0.5, np.float32))

    assert decided.tolist() == [[True, False, False, True, True]]
