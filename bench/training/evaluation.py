"""Scores of a model on Reuters-21578, with thresholds chosen on held-out rows alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.training.baselines import FittedBaseline
from bench.training.reuters import topics
from bench.training.trained_task import TrainedTask
from schemas.arrays import BoolArray, Float32Array
from schemas.decision.decide import Calibration, calibrate, decide
from schemas.decision.thresholds import ThresholdRule, find_thresholds, held_out_decisions
from schemas.tasks.task import label_matrix
from schemas.text.model_text import Article
from trainer.data.readers.reuters import read_stories
from trainer.evaluation.scores import Evaluation, evaluate

Scorer = Callable[[Sequence[Article]], Float32Array]
"""From articles to probabilities, (rows, labels) float32."""


@dataclass(frozen=True)
class Evaluations:
    """Evaluations on the held-out rows, decided with thresholds chosen without each row, and on
    the test stories.
    """

    heldout: Evaluation
    test: Evaluation


def evaluate_scorer(
    scorer: Scorer,
    heldout: tuple[Float32Array, BoolArray],
    sgml: Path,
    *,
    positives: Sequence[int],
) -> Evaluations:
    """Evaluate on the held-out rows, choose thresholds there, and only then read the test stories.

    heldout: probabilities and gold labels of rows that the model has not learned from, (rows,
    labels). positives: training rows of every label.
    """
    probabilities, gold = heldout
    decisions = held_out_decisions(probabilities, gold, ThresholdRule())
    heldout_evaluation = evaluate(
        gold, probabilities, decisions, labels=topics(), positives=positives, resamples=0
    )
    thresholds = find_thresholds(probabilities, gold)
    articles, gold = read_test_stories(sgml)
    probabilities = scorer(articles)
    decisions = decide(probabilities, thresholds)
    return Evaluations(
        heldout_evaluation,
        evaluate(gold, probabilities, decisions, labels=topics(), positives=positives),
    )


def read_test_stories(sgml: Path) -> tuple[list[Article], BoolArray]:
    """The 3,019 test stories with at least one of the 90 topics, and their gold labels."""
    known = set(topics())
    stories = [s for s in read_stories(sgml, "TEST") if known.intersection(s.topics)]
    gold = [[topic for topic in story.topics if topic in known] for story in stories]
    return [Article(story.text) for story in stories], label_matrix(gold, topics(), source="test")


def checkpoint_scorer(model: TrainedTask) -> Scorer:
    """Sigmoids of the fp32 logits of a checkpoint."""
    return lambda articles: _sigmoids(model.run(model.tokenize(articles)))


def heldout_probabilities(model: TrainedTask) -> Float32Array:
    """The same of its held-out rows, as if it had not learned from any."""
    return _sigmoids(model.heldout().unseen)


def baseline_scorer(fitted: FittedBaseline) -> Scorer:
    """Pseudo-probabilities of a baseline."""
    return lambda articles: fitted.score([article.text or "" for article in articles])


def _sigmoids(logits: Sequence[Float32Array]) -> Float32Array:
    stacked = np.stack(logits)
    return calibrate(stacked, Calibration.none(stacked.shape[1]))
