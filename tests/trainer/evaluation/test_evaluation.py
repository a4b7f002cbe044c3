"""What an evaluation promises, against scikit-learn and against plain resampling."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from schemas.decision.metrics import Hits
from tests.strategies import STEADY, Bools, Floats, decisions, scored_rows
from trainer.evaluation.intervals import F1Intervals, f1_intervals
from trainer.evaluation.scores import Evaluation, FrequencyBands, evaluate, ranking_scores


def names(count: int) -> list[str]:
    """Label names."""
    return [f"label {at}" for at in range(count)]


def sample(rows: int = 400, labels: int = 8, seed: int = 0) -> tuple[Bools, Floats, Bools]:
    """Gold labels from frequent to rare, probabilities that know something of them, decisions."""
    rng = np.random.default_rng(seed)
    gold = rng.random((rows, labels)) < 0.4 * 0.55 ** np.arange(labels)
    probabilities = (0.45 * gold + 0.6 * rng.random((rows, labels))).clip(0, 1).astype(np.float32)
    return gold, probabilities, probabilities >= 0.5


def whole(*, resamples: int = 50, seed: int = 0, rows: int = 400) -> Evaluation:
    """An evaluation with domains and languages."""
    gold, probabilities, decided = sample(rows)
    return evaluate(
        gold,
        probabilities,
        decided,
        labels=names(8),
        positives=gold.sum(axis=0).tolist(),
        domains=[("a.example", "b.example", None, " ")[at % 4] for at in range(len(gold))],
        languages=["en"] * len(gold),
        resamples=resamples,
        seed=seed,
    )


def test_evaluation_survives_json() -> None:
    """What is written to a file gives the same evaluation back."""
    found = whole()

    assert Evaluation.model_validate(json.loads(found.model_dump_json())) == found


def test_ranking_equals_scikit_learn() -> None:
    """ROC-AUC and average precision are those of scikit-learn where it defines them all."""
    gold, probabilities, _ = sample()
    found = ranking_scores(gold, probabilities)

    both = (gold, probabilities)
    assert found.micro_roc_auc == pytest.approx(roc_auc_score(*both, average="micro"))
    assert found.macro_roc_auc == pytest.approx(roc_auc_score(*both, average="macro"))
    assert found.micro_average_precision == pytest.approx(
        average_precision_score(*both, average="micro")
    )
    assert found.macro_average_precision == pytest.approx(
        average_precision_score(*both, average="macro")
    )
    assert found.roc_auc_labels == found.average_precision_labels == 8


def test_labels_where_ranking_is_undefined_are_left_out_and_counted() -> None:
    """A label that no row has, or every row, does not enter the mean that it has no value for."""
    gold = np.array([[1, 0, 1], [0, 0, 1], [1, 0, 1]]) > 0
    probabilities = np.array([[0.9, 0.5, 0.2], [0.1, 0.5, 0.4], [0.8, 0.5, 0.6]], np.float32)
    found = ranking_scores(gold, probabilities)

    assert (found.macro_roc_auc, found.roc_auc_labels) == (1.0, 1)
    assert (found.macro_average_precision, found.average_precision_labels) == (1.0, 2)


SUMS_ABOVE_1 = (
    np.array([[0.125, 0.25, 0.375], [0, 0, 0], [0, 0, 0]], np.float32),
    np.ones((3, 3), np.bool_),
)
"""Every pair is right, and adding up the precisions gives a bit more than 1."""


@STEADY
@given(rows=scored_rows())
@example(rows=SUMS_ABOVE_1)
def test_ranking_of_anything_is_a_share_or_nothing(rows: tuple[Floats, Bools]) -> None:
    """Ties, one row, no gold and all gold give numbers in [0, 1] or None, and no warning."""
    probabilities, gold = rows
    found = ranking_scores(gold, probabilities).model_dump()

    shares = [value for name, value in found.items() if not name.endswith("labels")]
    assert all(value is None or 0 <= value <= 1 for value in shares)
    assert (found["micro_average_precision"] is None) == (not gold.any())


def test_bands_follow_training_rows() -> None:
    """35 rows are the head, 34 and 9 medium, 8 and 0 the tail; bounds can be set."""
    positives = [35, 34, 9, 8, 0, 900]

    assert list(FrequencyBands().split(positives).values()) == [[0, 5], [1, 2], [3, 4]]
    assert list(FrequencyBands(head=10, tail=0).split(positives).values()) == [
        [0, 1, 5],
        [2, 3],
        [4],
    ]
    with pytest.raises(ValueError, match="tail 9 must be below head 9"):
        FrequencyBands(head=9, tail=9)


def test_band_scores_are_those_of_its_labels() -> None:
    """A band's F1 is that of scikit-learn on its columns; a band without labels has none."""
    gold, probabilities, decided = sample()
    positives = [100, 60, 40, 40, 20, 10, 9, 9]
    bands = evaluate(
        gold, probabilities, decided, labels=names(8), positives=positives, resamples=0
    ).bands

    head, medium, tail = bands.values()
    expected = {"y_true": gold[:, :4], "y_pred": decided[:, :4], "zero_division": 0}
    assert head.labels == 4
    assert head.micro_f1 == pytest.approx(f1_score(average="micro", **expected))
    assert head.macro_f1 == pytest.approx(f1_score(average="macro", **expected))
    assert medium.labels == 4
    assert (tail.labels, tail.micro_f1, tail.macro_f1) == (0, None, None)


@STEADY
@given(both=decisions(), data=st.data())
def test_groups_of_rows_and_labels_add_up(both: tuple[Bools, Bools], data: st.DataObject) -> None:
    """By gold labels and by domain every row is counted once; by band every label."""
    gold, decided = both
    label_count = gold.shape[1]
    positives = data.draw(st.lists(st.integers(0, 50), min_size=label_count, max_size=label_count))
    domains = data.draw(
        st.lists(st.sampled_from(["a", "b", None]), min_size=len(gold), max_size=len(gold))
    )
    found = evaluate(
        gold,
        decided.astype(np.float32),
        decided,
        labels=names(label_count),
        positives=positives,
        domains=domains,
        resamples=3,
    )

    assert sum(scores.rows for scores in found.by_gold_labels.values()) == len(gold)
    assert sum(scores.rows for scores in found.domains.values()) == len(gold)
    assert sum(band.labels for band in found.bands.values()) == label_count
    total = sum(band.labels * (band.macro_f1 or 0) for band in found.bands.values())
    assert total / label_count == pytest.approx(found.overall.macro_f1)
    assert found.overall == Hits.count(gold, decided).scores()
    assert found.languages == {}


def test_rows_are_grouped_by_their_gold_labels() -> None:
    """Rows with no, one and several gold labels are separate groups; empty groups are absent."""
    gold = np.array([[0, 0], [1, 0], [0, 1], [1, 1]]) > 0
    decided = np.array([[0, 0], [1, 0], [1, 0], [1, 1]]) > 0

    def groups(rows: list[int]) -> dict[str, tuple[int, float]]:
        found = evaluate(
            gold[rows],
            decided[rows].astype(np.float32),
            decided[rows],
            labels=names(2),
            positives=[5, 5],
            resamples=0,
        )
        return {name: (each.rows, each.micro_f1) for name, each in found.by_gold_labels.items()}

    assert groups([0, 1, 2, 3]) == {"none": (1, 0.0), "one": (2, 0.5), "several": (1, 1.0)}
    assert groups([1]) == {"one": (1, 1.0)}


def test_rows_without_a_domain_are_a_group_of_their_own() -> None:
    """Null and blank count together."""
    found = whole()

    assert {name: scores.rows for name, scores in found.domains.items()} == {
        "(none)": 200,
        "a.example": 100,
        "b.example": 100,
    }
    assert found.languages == {"en": found.overall}


def test_labels_stand_in_their_order_with_their_counts() -> None:
    """Each label has its own rows in training, in gold, and among those it was given to."""
    gold, probabilities, decided = sample()
    found = whole().labels

    assert [each.label for each in found] == names(8)
    assert [each.gold_rows for each in found] == gold.sum(axis=0).tolist()
    assert [each.predicted_rows for each in found] == decided.sum(axis=0).tolist()
    assert [each.f1 for each in found] == pytest.approx(
        f1_score(gold, decided, average=None, zero_division=0).tolist()
    )
    assert found[2].average_precision == pytest.approx(
        average_precision_score(gold[:, 2], probabilities[:, 2])
    )


def plain_bootstrap(gold: Bools, decided: Bools, resamples: int) -> list[tuple[float, float]]:
    """Micro and macro F1 of resampled rows, one row index at a time; macro over labels drawn."""
    rng = np.random.default_rng(99)
    found = []
    for _ in range(resamples):
        drawn = rng.integers(len(gold), size=len(gold))
        hits = Hits.count(gold[drawn], decided[drawn])
        there = (gold[drawn] | decided[drawn]).any(axis=0)
        found.append((hits.scores().micro_f1, float(hits.label_f1()[there].mean())))
    return found


def test_intervals_equal_those_of_plain_resampling() -> None:
    """Drawing how often each pattern of hits comes up is drawing the rows one by one."""
    gold, _, decided = sample(rows=150)
    (found,) = f1_intervals(gold, decided, [range(8)], resamples=4000)
    expected = np.percentile(plain_bootstrap(gold, decided, 2000), [2.5, 97.5], axis=0)

    assert found.micro_f1 is not None
    assert found.macro_f1 is not None
    assert [found.micro_f1.low, found.micro_f1.high] == pytest.approx(expected[:, 0], abs=0.01)
    assert [found.macro_f1.low, found.macro_f1.high] == pytest.approx(expected[:, 1], abs=0.02)


@STEADY
@given(both=decisions())
def test_intervals_lie_between_nothing_and_everything(both: tuple[Bools, Bools]) -> None:
    """Bounds are shares in order; where no row has or gets a label there are none."""
    gold, decided = both
    (found,) = f1_intervals(gold, decided, [range(gold.shape[1])], resamples=20)

    if not (gold | decided).any():
        assert found == F1Intervals()
    for interval in (found.micro_f1, found.macro_f1):
        if interval is not None:
            assert 0 <= interval.low <= interval.high <= 1 + 1e-9


def test_perfect_decisions_have_no_spread() -> None:
    """Also with rare labels, which a resample may lose, every resample is perfect."""
    gold, _, _ = sample(rows=60)
    gold[:, -1] = False
    gold[3, -1] = True
    (found,) = f1_intervals(gold, gold, [range(8)], resamples=200)
    present = gold.any(axis=0).mean()

    assert found.micro_f1 is not None
    assert found.macro_f1 is not None
    assert (found.micro_f1.low, found.micro_f1.high) == (1.0, 1.0)
    assert (found.macro_f1.low, found.macro_f1.high) == pytest.approx((present, present))


def test_more_rows_make_narrower_intervals() -> None:
    """Sixteen times the rows, a good deal less spread."""
    few, many = (whole(rows=rows, resamples=400).intervals.micro_f1 for rows in (100, 1600))

    assert few is not None
    assert many is not None
    assert many.high - many.low < 0.5 * (few.high - few.low)


def test_same_seed_gives_the_same_intervals() -> None:
    """The draw depends on the seed alone."""
    first, again, other = (whole(seed=seed).intervals for seed in (1, 1, 2))

    assert first == again != other


def test_without_resamples_there_are_no_intervals() -> None:
    """0 resamples leave the bounds out."""
    found = whole(resamples=0)

    assert found.intervals.micro_f1 is None
    assert "–" in found.as_markdown()


def test_tables_have_a_row_for_everything() -> None:
    """Bands, kinds of rows, domains and labels appear; a label's bar does not break the table."""
    gold, probabilities, decided = sample()
    found = evaluate(
        gold,
        probabilities,
        decided,
        labels=["a|b", *names(7)],
        positives=[400, 60, 40, 40, 20, 10, 9, 8],
        domains=["a.example", "b.example"] * 200,
        languages=["en"] * 400,
        resamples=20,
    )
    tables = found.as_markdown() + found.labels_as_markdown()

    for start in ("all labels", "head (>= 35)", "medium (9 to 34)", "tail (<= 8)", "several"):
        assert f"| {start} |" in tables
    assert "| a.example | 200 |" in tables
    assert "| en |" not in tables  # one language says what all rows say
    assert "| a\\|b | 400 |" in tables
    assert "95 % interval" in tables
