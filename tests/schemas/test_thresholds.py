"""What finding thresholds promises."""

import numpy as np
import pytest
from hypothesis import given

from schemas.decision import decide
from schemas.metrics import Hits
from schemas.thresholds import best_threshold, label_thresholds
from tests.strategies import STEADY, Bools, Floats, scored_rows


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
def test_neighbouring_floats_are_told_apart(start: float) -> None:
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

    found = label_thresholds(probabilities, gold)

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
        found = label_thresholds(probabilities, gold)[1]

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

    found = label_thresholds(probabilities, gold, shrinkage_rows=8)[1]

    assert np.log(found / (1 - found)) == pytest.approx((own + shared) / 2, abs=1e-5)


def test_shrinkage_has_two_ends() -> None:
    """Without shrinkage a label takes its own best threshold, with endless one the task's."""
    probabilities, gold = frequent_and_rare(4)

    free = label_thresholds(probabilities, gold, shrinkage_rows=1e-9)[1]
    bound = label_thresholds(probabilities, gold, shrinkage_rows=1e9)[1]

    assert free == pytest.approx(best_threshold(probabilities[:, 1], gold[:, 1]), rel=1e-5)
    assert bound == pytest.approx(best_threshold(probabilities, gold), rel=1e-5)


@STEADY
@given(rows=scored_rows())
def test_thresholds_are_float32_above_0_and_at_most_1(rows: tuple[Floats, Bools]) -> None:
    """Every label has one, and none accepts everything."""
    probabilities, gold = rows

    found = label_thresholds(probabilities, gold)

    assert found.dtype == np.float32
    assert found.shape == (gold.shape[1],)
    assert ((found > 0) & (found <= 1)).all()
