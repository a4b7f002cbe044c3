"""What counting hits and misses promises, against scikit-learn."""

from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score, precision_score, recall_score

from schemas.decision.metrics import Hits
from tests.strategies import STEADY, Bools, decisions


@STEADY
@given(both=decisions())
def test_scores_equal_scikit_learn(both: tuple[Bools, Bools]) -> None:
    """F1 in its four averages, precision, recall and exact match are those of scikit-learn."""
    gold, decided = both
    found = Hits.count(gold, decided).scores()

    given = {"y_true": gold.astype(int), "y_pred": decided.astype(int)}
    if gold.shape[1] == 1:  # scikit-learn takes one column for a binary task; an unused one helps
        given = {name: np.pad(column, ((0, 0), (0, 1))) for name, column in given.items()}
    some = {"labels": list(range(gold.shape[1])), "zero_division": 0, **given}
    expected = {
        "rows": len(gold),
        "micro_f1": f1_score(average="micro", **some),
        "macro_f1": f1_score(average="macro", **some),
        "samples_f1": f1_score(average="samples", **{**some, "zero_division": 1}),
        "exact_match": accuracy_score(**given),
        "precision": precision_score(average="micro", **some),
        "recall": recall_score(average="micro", **some),
        "macro_precision": precision_score(average="macro", **some),
        "macro_recall": recall_score(average="macro", **some),
        "weighted_f1": f1_score(average="weighted", **some),
    }
    assert found.model_dump() == pytest.approx(expected)


@STEADY
@given(both=decisions(), data=st.data())
def test_merging_equals_counting_at_once(both: tuple[Bools, Bools], data: st.DataObject) -> None:
    """Counts of two chunks add up to the counts of all rows."""
    gold, decided = both
    cut = data.draw(st.integers(0, len(gold)))
    merged = Hits.count(gold[:cut], decided[:cut]) + Hits.count(gold[cut:], decided[cut:])

    whole = Hits.count(gold, decided)
    assert merged.true_positives.tolist() == whole.true_positives.tolist()
    assert merged.scores().model_dump() == pytest.approx(whole.scores().model_dump())


@STEADY
@given(both=decisions())
def test_adding_nothing_changes_nothing(both: tuple[Bools, Bools]) -> None:
    """The zero counts are neutral."""
    hits = Hits.count(*both)

    same = Hits.zero(both[0].shape[1]) + hits
    for field in fields(Hits):
        assert np.array_equal(getattr(same, field.name), getattr(hits, field.name))


def test_scores_of_nothing_are_zero() -> None:
    """No rows give zeros, not a division by zero."""
    scores = Hits.zero(3).scores()

    assert scores.rows == 0
    assert set(scores.model_dump().values()) == {0}


def test_rows_without_labels_rightly_left_empty_are_right() -> None:
    """A row that has no label and gets none counts as 1 in samples F1 and as an exact match."""
    nothing = np.zeros((2, 3), dtype=np.bool_)

    scores = Hits.count(nothing, nothing).scores()

    assert (scores.samples_f1, scores.exact_match, scores.micro_f1) == (1.0, 1.0, 0.0)


def test_label_f1_stands_in_label_order() -> None:
    """Each label's own F1, and 0 for one that never occurs."""
    gold = np.array([[1, 0, 0], [1, 1, 0]]) > 0
    decided = np.array([[1, 1, 0], [1, 0, 0]]) > 0

    assert Hits.count(gold, decided).label_f1().tolist() == [1.0, 0.0, 0.0]


def test_label_precision_recall_and_gold_rows_stand_in_label_order() -> None:
    """Each label's own precision, recall and gold rows, and 0 for one that never occurs."""
    gold = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 0]]) > 0
    decided = np.array([[1, 1, 0], [1, 0, 0], [1, 1, 0]]) > 0
    hits = Hits.count(gold, decided)

    assert hits.label_precision().tolist() == pytest.approx([2 / 3, 1 / 2, 0])
    assert hits.label_recall().tolist() == [1.0, 0.5, 0.0]
    assert hits.gold_rows().tolist() == [2, 2, 0]
