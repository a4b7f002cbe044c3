"""Scores of a model on Reuters-21578, with thresholds chosen on held-out rows alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from accelerate import Accelerator

from bench.training.baselines import FittedBaseline
from bench.training.plan import TASK
from bench.training.reuters import topics
from schemas.arrays import BoolArray, Float32Array
from schemas.decision.decide import Calibration, calibrate, decide
from schemas.decision.thresholds import ThresholdRule, find_thresholds, held_out_decisions
from schemas.kinds import KINDS
from schemas.tasks.task import label_matrix
from schemas.text.model_text import Article, model_text
from schemas.text.tokens import TextTokenizer
from trainer.checkpoint.reader import Checkpoint
from trainer.data.readers.reuters import read_stories
from trainer.data.task_data import TokenizedRows
from trainer.evaluation.held_out import predict
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
    heldout: tuple[Sequence[Article], BoolArray],
    sgml: Path,
    *,
    positives: Sequence[int],
) -> Evaluations:
    """Evaluate on the held-out rows, choose thresholds there, and only then read the test stories.

    heldout: articles and their gold labels, (rows, labels) bool. positives: training rows of every
    label.
    """
    articles, gold = heldout
    probabilities = scorer(articles)
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


def checkpoint_scorer(checkpoint: Checkpoint) -> Scorer:
    """Sigmoids of the fp32 logits of a checkpoint."""
    return partial(_score_with_checkpoint, checkpoint)


def baseline_scorer(fitted: FittedBaseline) -> Scorer:
    """Pseudo-probabilities of a baseline."""

    def score(articles: Sequence[Article]) -> Float32Array:
        return fitted.score([article.text or "" for article in articles])

    return score


def _score_with_checkpoint(checkpoint: Checkpoint, articles: Sequence[Article]) -> Float32Array:
    info = checkpoint.info
    task, max_tokens = info.tasks[TASK], info.max_tokens
    tokenizer = TextTokenizer(checkpoint.tokenizer, max_tokens=max_tokens)
    texts = [model_text(article, task.text, max_tokens=max_tokens) for article in articles]
    no_labels = np.zeros((len(texts), len(task.labels)), dtype=np.bool_)
    path = checkpoint.model.path(TASK)
    outputs = predict(
        path,
        KINDS[task.kind].output(path.head.width),
        TokenizedRows(list(tokenizer.encode(texts)), no_labels, no_labels, [""] * len(texts)),
        pad_id=info.pad_id,
        max_tokens=max_tokens,
        bf16=False,
        accelerator=Accelerator(),
    )
    return calibrate(np.stack(outputs), Calibration.none(len(task.labels)))
