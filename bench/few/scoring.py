"""What the answers of a method are worth."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from bench.few.sets import GOLD, LabelledSet
from schemas.arrays import Int64Array
from schemas.decision.classes import Confusion
from schemas.decision.metrics import F1Scores, Hits
from schemas.decision.spans import SpanHits
from schemas.kinds import KINDS
from schemas.kinds.base import Answer
from schemas.tasks.task import label_matrix

RESAMPLES = 100


def score_answers(
    one: LabelledSet, answers: Sequence[Answer]
) -> tuple[dict[str, float], dict[str, float]]:
    """Scores by metric, and how far each would move with other test rows (bootstrap).

    answers: one a test row. A label that was not in the rows drawn counts as missed.
    """
    score = COUNTERS[one.kind](one, answers)
    rows = np.arange(len(answers), dtype=np.int64)
    rng = np.random.default_rng(0)
    resampled = [score(rng.choice(rows, len(rows))) for _ in range(RESAMPLES)]

    def of(scores: F1Scores, metric: str) -> float:
        return float(getattr(scores, metric))

    scores = {metric: round(of(score(rows), metric), 4) for metric in one.metrics}
    deviations = {
        metric: round(float(np.std([of(each, metric) for each in resampled])), 4)
        for metric in one.metrics
    }
    return scores, deviations


ScoreRows = Callable[[Int64Array], F1Scores]
"""From numbers of test rows, which may repeat, to their scores."""


def _labels(one: LabelledSet) -> tuple[str, ...]:
    kind = KINDS[one.kind]
    rows = [
        value for part in (one.pool, one.tested) for value in kind.read_gold(part[GOLD].to_arrow())
    ]
    return tuple(sorted({label for value in rows for label in kind.gold_labels(value)}))


def _count_labels(one: LabelledSet, answers: Sequence[Answer]) -> ScoreRows:
    labels = _labels(one)
    gold = label_matrix(one.tested[GOLD].to_list(), labels, source=one.name)
    decided = label_matrix([answer.labels for answer in answers], labels, source=one.name)
    return lambda rows: Hits.count(gold[rows], decided[rows]).scores()


def _count_classes(one: LabelledSet, answers: Sequence[Answer]) -> ScoreRows:
    numbers = {label: number for number, label in enumerate(_labels(one))}
    gold = np.array([numbers[label] for label in one.tested[GOLD].to_list()])
    decided = np.array([numbers[answer.labels[0]] for answer in answers])
    return lambda rows: Confusion.count(gold[rows], decided[rows], len(numbers)).scores()


def _count_spans(one: LabelledSet, answers: Sequence[Answer]) -> ScoreRows:
    numbers = {label: number for number, label in enumerate(_labels(one))}
    kind = KINDS[one.kind]
    gold = kind.encode(kind.read_gold(one.tested[GOLD].to_arrow()), tuple(numbers))
    decided = [
        np.array(
            [(start, end, numbers[label]) for start, end, label, *_ in answer.entities], np.int64
        ).reshape(-1, 3)
        for answer in answers
    ]
    return lambda rows: SpanHits.count(
        [gold[row] for row in rows], [decided[row] for row in rows], len(numbers)
    ).scores()


COUNTERS: Mapping[str, Callable[[LabelledSet, Sequence[Answer]], ScoreRows]] = {
    "multilabel": _count_labels,
    "multiclass": _count_classes,
    "token": _count_spans,
}
"""How the answers of a kind are counted."""
