"""What finding thresholds promises."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from pydantic import ValidationError

from schemas.decision.decide import decide
from schemas.decision.metrics import Hits
from schemas.decision.thresholds import (
    ThresholdRule,
    best_threshold,
    each_fold,
    find_thresholds,
    held_out_decisions,
    threshold_intervals,
)
from tests.strategies import STEADY, Bools, Floats, scored_rows, threshold_rules

GLOBAL = ThresholdRule(strategy="global")
PER_LABEL = ThresholdRule(strategy="per_label")
OBJECTIVES: list[dict[str, Any]] = [
    {"objective": "f1"},
    {"objective": "precision_floor", "floor": 0.5},
    {"objective": "precision_floor", "floor": 0.9},
    {"objective": "recall_floor", "floor": 0.5},
    {"objective": "recall_floor", "floor": 1.0},
    {"objective": "cost", "false_positive_cost": 3.0},
    {"objective": "cost", "false_negative_cost": 20.0},
]
EACH_OBJECTIVE = pytest.mark.parametrize("objective", OBJECTIVES, ids=str)


def floats(values: list[list[float]] | list[float]) -> Floats:
    """A float32 array."""
    return np.array(values, dtype=np.float32)


def micro_f1(probabilities: Floats, gold: Bools, threshold: float) -> float:
    """F1 over all pairs at one threshold, as a scorer would apply it."""
    thresholds = np.full(gold.shape[1], threshold, dtype=np.float32)
    return Hits.count(gold, decide(probabilities, thresholds)).scores().micro_f1


def best_by_force(probabilities: Floats, gold: Bools) -> float:
    """The best F1 of every threshold there is."""
    return max(micro_f1(probabilities, gold, float(value)) for value in probabilities.ravel())


@STEADY
@given(rows=scored_rows())
def test_best_threshold_has_the_best_f1(rows: tuple[Floats, Bools]) -> None:
    """No other threshold has a higher F1, with ties and with neighbouring floats too."""
    probabilities, gold = rows

    found = micro_f1(probabilities, gold, best_threshold(probabilities, gold))

    assert found == pytest.approx(best_by_force(probabilities, gold), abs=1e-12)


@pytest.mark.parametrize("start", np.linspace(0.1, 0.9, 9).tolist())
def test_adjacent_floats_are_distinguished(start: float) -> None:
    """Where no float lies between an accepted and a refused probability, only one is accepted."""
    refused = np.float32(start)
    for _ in range(4):
        accepted = np.nextafter(refused, np.float32(1))
        probabilities, gold = np.array([accepted, refused]), np.array([True, False])

        threshold = np.array([best_threshold(probabilities, gold)], dtype=np.float32)

        assert decide(probabilities, threshold).tolist() == [True, False]
        refused = accepted


def test_best_threshold_lies_midway() -> None:
    """Between the lowest accepted and the highest refused probability."""
    found = best_threshold(floats([[0.875], [0.75], [0.25]]), np.array([[1], [1], [0]]) > 0)

    assert found == 0.5


def test_all_accepted_leaves_room_below() -> None:
    """Where every row is a hit, the threshold lies midway to zero."""
    assert best_threshold(floats([[0.5], [0.75]]), np.array([[True], [True]])) == 0.25


@STEADY
@given(rows=scored_rows())
def test_without_positives_nothing_below_1_is_accepted(rows: tuple[Floats, Bools]) -> None:
    """Where nothing is to be found, no probability but 1 reaches the threshold."""
    probabilities, _ = rows
    threshold = np.float32(best_threshold(probabilities, np.zeros_like(probabilities, np.bool_)))

    assert not (probabilities[probabilities < 1] >= threshold).any()
    assert threshold <= 1


def test_label_without_positives_takes_the_shared_threshold() -> None:
    """A label that no held-out row has is decided like the whole task."""
    probabilities = floats([[0.875, 0.5], [0.75, 0.25], [0.25, 0.125]])
    gold = np.array([[1, 0], [1, 0], [0, 0]]) > 0

    found = find_thresholds(probabilities, gold)

    assert found[1] == pytest.approx(best_threshold(probabilities, gold), rel=1e-6)


def frequent_and_rare(rare_rows: int) -> tuple[Floats, Bools]:
    """A frequent label best cut at 0.5, and a rare one best cut at 0.9."""
    rng = np.random.default_rng(0)
    gold = np.zeros((400, 2), dtype=np.bool_)
    gold[:200, 0] = True
    gold[:rare_rows, 1] = True
    probabilities = rng.uniform(0.0, 0.45, gold.shape)
    probabilities[:, 1] = rng.uniform(0.0, 0.85, 400)
    probabilities[gold[:, 0], 0] = rng.uniform(0.55, 1.0, 200)
    probabilities[gold[:, 1], 1] = 0.95
    return probabilities.astype(np.float32), gold


def test_rare_label_moves_toward_the_shared_threshold() -> None:
    """The fewer positive rows a label has, the closer it lies to the task's threshold."""
    distances = []
    for rare_rows in (1, 4, 16, 64):
        probabilities, gold = frequent_and_rare(rare_rows)
        own = best_threshold(probabilities[:, 1], gold[:, 1])
        shared = best_threshold(probabilities, gold)
        found = find_thresholds(probabilities, gold)[1]

        assert shared < found < own
        distances.append((found - shared) / (own - shared))
    assert distances == sorted(distances)


def test_shrinkage_weighs_the_same_at_its_own_count() -> None:
    """At `shrinkage_rows` positive rows the threshold is midway on the logit scale."""
    probabilities, gold = frequent_and_rare(8)
    own, shared = (
        np.log(value / (1 - value))
        for value in (
            best_threshold(probabilities[:, 1], gold[:, 1]),
            best_threshold(probabilities, gold),
        )
    )

    found = find_thresholds(probabilities, gold, ThresholdRule(shrinkage_rows=8))[1]

    assert np.log(found / (1 - found)) == pytest.approx((own + shared) / 2, abs=1e-5)


def test_shrinkage_has_two_ends() -> None:
    """Without shrinkage a label takes its own best threshold, with endless one the task's."""
    probabilities, gold = frequent_and_rare(4)

    free = find_thresholds(probabilities, gold, ThresholdRule(shrinkage_rows=1e-9))[1]
    bound = find_thresholds(probabilities, gold, ThresholdRule(shrinkage_rows=1e9))[1]

    assert free == pytest.approx(best_threshold(probabilities[:, 1], gold[:, 1]), rel=1e-5)
    assert bound == pytest.approx(best_threshold(probabilities, gold), rel=1e-5)


@STEADY
@given(rows=scored_rows())
def test_thresholds_are_float32_above_0_and_at_most_1(rows: tuple[Floats, Bools]) -> None:
    """Every label has one, and none accepts everything."""
    probabilities, gold = rows

    found = find_thresholds(probabilities, gold)

    assert found.dtype == np.float32
    assert found.shape == (gold.shape[1],)
    assert ((found > 0) & (found <= 1)).all()


def worth(gold: Bools, decided: Bools, rule: ThresholdRule) -> tuple[float, ...]:
    """What an objective says of decisions; of two, the greater is better."""
    hits = Hits.count(gold, decided)
    scores = hits.scores()
    match rule.objective:
        case "f1":
            return (scores.micro_f1,)
        case "macro_f1":
            return (round(scores.macro_f1, 12),)
        case "precision_floor" if scores.precision >= rule.floor:
            return (1.0, scores.recall, scores.precision)
        case "precision_floor":
            return (0.0, scores.precision, scores.recall)
        case "recall_floor":
            return (float(scores.recall >= rule.floor), scores.precision, scores.recall)
        case "cost":
            too_many, missed = hits.false_positives.sum(), hits.false_negatives.sum()
            cost = rule.false_positive_cost * too_many + rule.false_negative_cost * missed
            return (-float(cost),)


def best_worth(probabilities: Floats, gold: Bools, rule: ThresholdRule) -> tuple[float, ...]:
    """The best an objective can have at any threshold up to 1."""
    above = np.nextafter(probabilities.max(), np.float32(2))
    every = {*probabilities.ravel().tolist(), *([float(above)] if above <= 1 else [])}
    return max(worth(gold, probabilities >= np.float32(value), rule) for value in every)


@EACH_OBJECTIVE
@STEADY
@given(rows=scored_rows())
def test_no_threshold_of_a_label_is_better(
    rows: tuple[Floats, Bools], objective: dict[str, Any]
) -> None:
    """Each label that has a positive row gets the best threshold there is for it."""
    probabilities, gold = rows
    rule = ThresholdRule(strategy="per_label", **objective)

    decided = decide(probabilities, find_thresholds(probabilities, gold, rule))

    for label in np.flatnonzero(gold.any(axis=0)):
        own = np.s_[:, label : label + 1]
        found = worth(gold[own], decided[own], rule)
        assert found == best_worth(probabilities[own], gold[own], rule)


@pytest.mark.parametrize("objective", [*OBJECTIVES, {"objective": "macro_f1"}], ids=str)
@STEADY
@given(rows=scored_rows())
def test_no_threshold_of_the_task_is_better(
    rows: tuple[Floats, Bools], objective: dict[str, Any]
) -> None:
    """One threshold for all labels is the best there is for all pairs, or for macro-F1."""
    probabilities, gold = rows
    rule = ThresholdRule(strategy="global", **objective)

    thresholds = find_thresholds(probabilities, gold, rule)

    assert len({*thresholds.tolist()}) == 1
    if gold.any():
        found = worth(gold, decide(probabilities, thresholds), rule)
        assert found == best_worth(probabilities, gold, rule)


def test_macro_f1_listens_to_rare_labels() -> None:
    """Where a rare label needs a low threshold, macro-F1 takes it and micro-F1 does not."""
    rng = np.random.default_rng(0)
    gold = np.zeros((400, 3), dtype=np.bool_)
    gold[:100, 0] = gold[:2, 1] = gold[:2, 2] = True
    probabilities = rng.uniform(0, 0.35, gold.shape).astype(np.float32)
    probabilities[:, 1:] = 0.01
    probabilities[gold] = 0.3
    probabilities[:100, 0] = 0.9

    rule = ThresholdRule(strategy="global", objective="macro_f1")
    micro, macro = (find_thresholds(probabilities, gold, one)[0] for one in (GLOBAL, rule))

    assert macro <= 0.3 < micro


def test_precision_that_cannot_be_reached_is_the_highest_there_is() -> None:
    """A floor above every precision gives the most precise threshold, not one that takes none."""
    probabilities = floats([[0.875], [0.75], [0.5], [0.25]])
    gold = np.array([[0], [1], [1], [0]]) > 0
    rule = ThresholdRule(strategy="per_label", objective="precision_floor", floor=0.9)

    decided = decide(probabilities, find_thresholds(probabilities, gold, rule))

    assert decided[:, 0].tolist() == [True, True, True, False]


def test_dear_mistakes_are_not_made() -> None:
    """Where a label too many costs more than all labels missed, none is given."""
    probabilities, gold = floats([[0.75], [0.5]]), np.array([[False], [True]])
    rule = ThresholdRule(strategy="per_label", objective="cost", false_positive_cost=5)

    assert not decide(probabilities, find_thresholds(probabilities, gold, rule)).any()


@STEADY
@given(rows=scored_rows(), rule=threshold_rules())
def test_every_rule_gives_probabilities(rows: tuple[Floats, Bools], rule: ThresholdRule) -> None:
    """Whatever the rule and the rows, thresholds and intervals are float32 between 0 and 1."""
    probabilities, gold = rows

    found = find_thresholds(probabilities, gold, rule)
    intervals = threshold_intervals(probabilities, gold, rule, resamples=5)

    assert found.dtype == intervals.dtype == np.float32
    assert found.shape == (gold.shape[1],)
    assert intervals.shape == (gold.shape[1], 2)
    assert ((found >= 0) & (found <= 1)).all()
    assert (intervals[:, 0] <= intervals[:, 1]).all()
    assert ((intervals >= 0) & (intervals <= 1)).all()


def test_fixed_threshold_does_not_look_at_the_rows() -> None:
    """The rule's own number, for every label."""
    probabilities, gold = frequent_and_rare(8)
    rule = ThresholdRule(strategy="fixed", fixed=0.25)

    assert find_thresholds(probabilities, gold, rule).tolist() == [0.25, 0.25]
    assert threshold_intervals(probabilities, gold, rule, resamples=3).tolist() == [[0.25] * 2] * 2


@pytest.mark.parametrize("rule", [ThresholdRule(), GLOBAL, PER_LABEL])
def test_label_that_every_row_has_is_given_to_all(rule: ThresholdRule) -> None:
    """Where all is positive every row is accepted."""
    probabilities = floats([[0.5, 0.25], [0.5, 0.75]])
    gold = np.ones_like(probabilities, dtype=np.bool_)

    assert decide(probabilities, find_thresholds(probabilities, gold, rule)).all()


@pytest.mark.parametrize("rule", [ThresholdRule(), GLOBAL, PER_LABEL])
def test_without_rows_thresholds_are_fixed(rule: ThresholdRule) -> None:
    """No evidence means one half, not a threshold that accepts everything."""
    nothing = np.zeros((0, 2), dtype=np.float32)

    assert find_thresholds(nothing, nothing > 0, rule).tolist() == [0.5, 0.5]


def test_folds_find_the_same_where_rows_agree() -> None:
    """Where every part of the rows says the same, leaving one out changes little."""
    probabilities, gold = frequent_and_rare(100)

    once = find_thresholds(probabilities, gold, PER_LABEL)
    folded = find_thresholds(probabilities, gold, PER_LABEL.model_copy(update={"folds": 5}))

    np.testing.assert_allclose(folded, once, atol=0.02)


def test_folds_do_not_follow_the_one_that_jumps() -> None:
    """Where the choice of one fold in four jumps, for want of one row, the median stays."""
    probabilities = floats([[0.9]] * 9 + [[0.2]] + [[0.1]] * 90)
    gold = probabilities > 0.15
    others = np.arange(len(gold)) != 9
    without = find_thresholds(probabilities[others], gold[others], PER_LABEL)
    rule = PER_LABEL.model_copy(update={"folds": 4})

    assert without.tolist() == pytest.approx([0.5])
    assert find_thresholds(probabilities, gold, rule).tolist() == pytest.approx([0.15], rel=1e-3)


def test_interval_is_wide_where_rows_are_few() -> None:
    """The threshold of a rare label is less sure than that of a frequent one."""
    rng = np.random.default_rng(0)
    gold = np.zeros((600, 2), dtype=np.bool_)
    gold[:300, 0] = gold[:6, 1] = True
    logits = rng.normal(np.where(gold, 1.5, -1.5), 1.0)
    probabilities = (1 / (1 + np.exp(-logits))).astype(np.float32)

    frequent, rare = threshold_intervals(probabilities, gold, PER_LABEL)
    found = find_thresholds(probabilities, gold, PER_LABEL)

    assert frequent[0] <= found[0] <= frequent[1]
    assert rare[1] - rare[0] > 1.5 * (frequent[1] - frequent[0])


def test_interval_is_the_same_every_time() -> None:
    """Seeded, so that exporting twice gives the same file; another seed draws again."""
    probabilities, gold = frequent_and_rare(8)
    rule = ThresholdRule()
    first, again, other = (
        threshold_intervals(probabilities, gold, rule, seed=seed, resamples=30)
        for seed in (0, 0, 1)
    )

    assert first.tobytes() == again.tobytes()
    assert first.tobytes() != other.tobytes()


def test_wider_confidence_is_a_wider_interval() -> None:
    """An interval of more draws contains that of fewer."""
    probabilities, gold = frequent_and_rare(8)
    narrow, wide = (
        threshold_intervals(probabilities, gold, ThresholdRule(), confidence=confidence)
        for confidence in (0.5, 0.95)
    )

    assert (wide[:, 0] <= narrow[:, 0]).all()
    assert (wide[:, 1] >= narrow[:, 1]).all()
    assert (wide[1, 1] - wide[1, 0]) > (narrow[1, 1] - narrow[1, 0])


@STEADY
@given(rows=scored_rows(), rule=threshold_rules())
def test_a_row_has_no_say_in_its_own_decision(
    rows: tuple[Floats, Bools], rule: ThresholdRule
) -> None:
    """Turning the gold labels of a row round changes no decision about that row."""
    probabilities, gold = rows
    before = held_out_decisions(probabilities, gold, rule, folds=3)

    for row in range(len(gold)):
        turned = gold.copy()
        turned[row] = ~turned[row]
        after = held_out_decisions(probabilities, turned, rule, folds=3)
        assert after[row].tolist() == before[row].tolist()


def test_held_out_decisions_are_those_of_the_other_folds() -> None:
    """Each fold is decided by what `find_thresholds` gives for the rows outside it."""
    probabilities, gold = frequent_and_rare(20)
    decided = held_out_decisions(probabilities, gold, ThresholdRule(), folds=4, seed=3)

    for inside in each_fold(len(gold), folds=4, seed=3):
        thresholds = find_thresholds(probabilities[~inside], gold[~inside])
        assert decided[inside].tolist() == decide(probabilities[inside], thresholds).tolist()


def test_held_out_score_is_lower_where_there_is_nothing_to_learn() -> None:
    """On noise the thresholds fit the rows they were found on, and not those they were not."""
    rng = np.random.default_rng(0)
    probabilities = rng.random((80, 40)).astype(np.float32)
    gold = rng.random((80, 40)) < 0.05

    seen = decide(probabilities, find_thresholds(probabilities, gold, PER_LABEL))
    unseen = held_out_decisions(probabilities, gold, PER_LABEL)

    seen_f1, unseen_f1 = (Hits.count(gold, one).scores().macro_f1 for one in (seen, unseen))
    assert unseen_f1 < 0.7 * seen_f1


@pytest.mark.parametrize(("rows", "folds"), [(1, 5), (3, 5), (5, 5), (17, 5), (100, 2)])
def test_every_row_is_in_one_fold(rows: int, folds: int) -> None:
    """Folds cut the rows into parts of equal size, give or take one."""
    inside = np.array(list(each_fold(rows, folds=folds)))

    assert (inside.sum(axis=0) == 1).all()
    assert len(inside) == min(rows, folds)
    assert np.ptp(inside.sum(axis=1)) <= 1


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"objective": "macro_f1"}, "'macro_f1' is for strategy 'global', not 'shrunk'"),
        ({"strategy": "fixed", "objective": "cost"}, "'fixed' chooses nothing"),
        ({"strategy": "fixed", "folds": 3}, "folds = 3 has no effect with strategy 'fixed'"),
        ({"folds": 1}, "folds = 1 leaves no rows"),
        ({"fixed": 0.3}, "fixed = 0.3 has no effect with strategy 'shrunk': leave it at 0.5, or"),
        ({"floor": 0.8}, "floor = 0.8 has no effect with objective 'f1': leave it at 0.9, or"),
        ({"strategy": "global", "shrinkage_rows": 3}, "shrinkage_rows = 3.0 has no effect"),
        ({"false_positive_cost": 2}, "choose objective 'cost'"),
        ({"objective": "cost", "false_negative_cost": 0}, "greater than 0"),
        ({"objective": "cost", "false_negative_cost": float("inf")}, "finite number"),
        ({"objective": "recall_floor", "floor": 1.5}, "less than or equal to 1"),
        ({"strategy": "median"}, "'fixed', 'global', 'per_label' or 'shrunk'"),
        ({"color": "red"}, "Extra inputs are not permitted"),
    ],
)
def test_rule_that_makes_no_sense_is_refused(values: dict[str, Any], message: str) -> None:
    """Settings that contradict each other, or have no effect, are reported with a hint."""
    with pytest.raises(ValidationError) as caught:
        ThresholdRule(**values)

    assert message in str(caught.value)


def test_every_problem_of_a_rule_is_reported_at_once() -> None:
    """Not one at a time."""
    with pytest.raises(ValidationError, match=r"folds = 1 .*; floor = 0\.8 .*; false_positive"):
        ThresholdRule(folds=1, floor=0.8, false_positive_cost=2)
