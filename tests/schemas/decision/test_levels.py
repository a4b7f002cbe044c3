"""What decisions about two-level labels promise, and their scores by level."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from schemas.decision.decide import Calibration, decide
from schemas.decision.levels import LabelTree
from schemas.decision.metrics import Hits
from schemas.kinds.label_sets import LabelSets
from schemas.kinds.multilabel import MultilabelDecision, MultilabelKind
from tests.strategies import STEADY, Bools, Floats, calibrations, logits, parents

LABELS = ("energy", "oil", "gas", "grain", "wheat")
PARENTS = {"oil": "energy", "gas": "energy", "wheat": "grain"}
TREE = LabelTree.of(LABELS, PARENTS)

Thresholds = tuple[float, ...]
THRESHOLDS: st.SearchStrategy[Thresholds] = st.tuples(*[st.floats(0, 1, width=32)] * len(LABELS))


def answers(
    outputs: Floats, calibration: Calibration, thresholds: Thresholds, of: dict[str, str]
) -> LabelSets:
    """What the kind decides."""
    decision = MultilabelDecision(thresholds=thresholds, calibration=calibration, parents=of)
    return MultilabelKind().decide(list(outputs), LABELS, decision, [])


@STEADY
@given(
    outputs=logits(labels=len(LABELS)),
    calibration=calibrations(len(LABELS)),
    thresholds=THRESHOLDS,
    of=parents(LABELS),
)
def test_answers_are_consistent(
    outputs: Floats, calibration: Calibration, thresholds: Thresholds, of: dict[str, str]
) -> None:
    """For any logits, calibration, thresholds and parents: a fine label is decided only with its
    coarse one, and is never more probable.
    """
    found = answers(outputs, calibration, thresholds, of)

    for fine, coarse in of.items():
        at, above = LABELS.index(fine), LABELS.index(coarse)
        assert not (found.decided[:, at] & ~found.decided[:, above]).any()
        assert (found.probabilities[:, at] <= found.probabilities[:, above]).all()


@STEADY
@given(
    outputs=logits(labels=len(LABELS)),
    calibration=calibrations(len(LABELS)),
    thresholds=THRESHOLDS,
    of=parents(LABELS),
)
def test_nothing_but_coarse_labels_changes(
    outputs: Floats, calibration: Calibration, thresholds: Thresholds, of: dict[str, str]
) -> None:
    """Fine labels and labels of one level have the bits that they have without parents, and no
    coarse label is lost.
    """
    found, flat = (answers(outputs, calibration, thresholds, one) for one in (of, {}))
    same = [label not in of.values() for label in LABELS]

    assert found.probabilities[:, same].tobytes() == flat.probabilities[:, same].tobytes()
    assert (found.decided[:, same] == flat.decided[:, same]).all()
    assert (found.decided >= flat.decided).all()
    assert (found.probabilities >= flat.probabilities).all()


@STEADY
@given(
    outputs=logits(labels=len(LABELS)), calibration=calibrations(len(LABELS)), of=parents(LABELS)
)
def test_a_row_does_not_depend_on_other_rows(
    outputs: Floats, calibration: Calibration, of: dict[str, str]
) -> None:
    """Rows decided one by one have the bits of rows decided together."""
    thresholds = (0.5,) * len(LABELS)
    together = answers(outputs, calibration, thresholds, of)
    alone = [answers(row[None], calibration, thresholds, of) for row in outputs]

    assert together.probabilities.tobytes() == b"".join(
        one.probabilities.tobytes() for one in alone
    )
    assert (together.decided == np.concatenate([one.decided for one in alone])).all()


def test_a_coarse_label_is_as_probable_as_its_most_probable_fine_one() -> None:
    """The maximum of its own probability and those below it."""
    probabilities = np.array([[0.125, 0.375, 0.25, 0.875, 0.5]], np.float32)

    assert TREE.probabilities(probabilities).tolist() == [[0.375, 0.375, 0.25, 0.875, 0.5]]


def test_a_fine_label_brings_its_coarse_one() -> None:
    """Where the coarse label has a higher threshold than the fine one, the fine label decides."""
    probabilities = TREE.probabilities(np.array([[0.1, 0.3, 0.2, 0.1, 0.1]], np.float32))
    thresholds = np.array([0.5, 0.25, 0.5, 0.5, 0.5], np.float32)

    assert TREE.decisions(decide(probabilities, thresholds)).tolist() == [
        [True, True, False, False, False]
    ]


@st.composite
def compared(draw: st.DrawFn) -> tuple[Bools, Bools]:
    """Gold and decided labels, (rows, labels)."""
    shape = (draw(st.integers(0, 8)), len(LABELS))
    return draw(hnp.arrays(np.bool_, shape)), draw(hnp.arrays(np.bool_, shape))


@STEADY
@given(both=compared(), data=st.data())
def test_scores_of_a_level_are_those_of_its_labels_alone(
    both: tuple[Bools, Bools], data: st.DataObject
) -> None:
    """Also where counts of two parts are added up; scores of all labels do not change."""
    gold, decided = both
    cut = data.draw(st.integers(0, len(gold)))
    parts = (slice(None, cut), slice(cut, None))
    first, second = (Hits.count(gold[rows], decided[rows], TREE) for rows in parts)
    scores = (first + second).scores()
    columns = {"coarse": [0, 3], "fine": [1, 2, 4]}

    assert scores.levels is not None
    flat = Hits.count(gold, decided).scores()
    assert scores.headline() == flat.headline()
    for level, of_level in columns.items():
        alone = Hits.count(gold[:, of_level], decided[:, of_level]).scores()
        found = getattr(scores.levels, level)
        assert found.headline() == alone.headline()
        assert found.exact_match == alone.exact_match


def test_labels_of_one_level_have_no_scores_by_level() -> None:
    """Nothing is added to what is written of a task without parents."""
    nothing = np.zeros((2, 2), np.bool_)
    scores = Hits.count(nothing, nothing).scores()

    assert scores.levels is None
    assert "levels" not in scores.model_dump()
