"""Classical baselines: useful scores, in the shape of those of the neural models."""

from typing import get_args

import numpy as np
import pytest

from bench.training.baselines import BaselineName, fit
from schemas.arrays import BoolArray
from schemas.decision.decide import decide
from schemas.decision.metrics import Hits
from schemas.decision.thresholds import best_threshold

NAMES = get_args(BaselineName)
TOPICS = ("wheat harvest bushels", "crude barrels refinery", "deposit lending bundesbank")
EACH_BASELINE = pytest.mark.parametrize("name", NAMES)


def stories(seed: int, rows: int) -> tuple[list[str], BoolArray]:
    """Filler texts with words of some of three topics, and their gold labels."""
    rng = np.random.default_rng(seed)
    gold = rng.random((rows, len(TOPICS))) < 0.4
    texts = [
        " ".join(
            [
                *(f"filler{number}" for number in rng.integers(200, size=20)),
                *(
                    str(rng.choice(topic.split()))
                    for topic, has in zip(TOPICS, row, strict=True)
                    if has
                ),
            ]
        )
        for row in gold
    ]
    return texts, gold


@EACH_BASELINE
def test_topics_are_recognized(name: BaselineName) -> None:
    """With topical words in the texts, a threshold from held-out rows decides others correctly."""
    heldout, heldout_gold = stories(1, 60)
    texts, gold = stories(2, 60)
    fitted = fit(name, *stories(0, 300))
    threshold = best_threshold(fitted.score(heldout), heldout_gold)
    decided = decide(fitted.score(texts), np.full(len(TOPICS), threshold, np.float32))

    assert Hits.count(gold, decided).scores().micro_f1 > 0.95


@EACH_BASELINE
def test_scores_are_like_probabilities(name: BaselineName) -> None:
    """float32 in [0, 1], a row per text and a column per label."""
    fitted = fit(name, *stories(0, 100))
    scores = fitted.score(stories(1, 7)[0])

    assert scores.shape == (7, len(TOPICS))
    assert scores.dtype == np.float32
    assert ((scores >= 0) & (scores <= 1)).all()
    assert fitted.seconds > 0


@EACH_BASELINE
def test_fitting_again_gives_the_same_scores(name: BaselineName) -> None:
    """Same texts and seed, same scores, in the order of the scored texts."""
    texts, _ = stories(1, 9)
    first, second = (fit(name, *stories(0, 100), seed=5) for _ in range(2))

    assert np.array_equal(first.score(texts), second.score(texts[::-1])[::-1])


@EACH_BASELINE
@pytest.mark.parametrize("value", [False, True])
def test_label_with_constant_gold_is_refused(name: BaselineName, *, value: bool) -> None:
    """A label that no training row has, or all have, is an error that names its column."""
    texts, gold = stories(0, 40)
    gold[:, 1] = value

    with pytest.raises(ValueError, match=r"\[1\]"):
        fit(name, texts, gold)
