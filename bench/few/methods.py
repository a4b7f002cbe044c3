"""The methods that are compared: from labelled rows to answers for the test rows of a set."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from bench.few.product import train_and_answer
from bench.few.results import MethodName
from bench.few.sets import GOLD, TEXT, LabelledSet
from bench.few.vectors import SentenceVectors, fit_regression
from bench.training.baselines import fit
from schemas.arrays import BoolArray, Float32Array
from schemas.decision.decide import decide
from schemas.decision.thresholds import best_threshold, each_fold
from schemas.kinds import KINDS
from schemas.kinds.base import Answer
from schemas.tasks.task import label_matrix

Method = Callable[[LabelledSet, pl.DataFrame, Path], tuple[list[Answer], float]]
"""From a set, rows of its pool and an empty folder to an answer for each test row, and the seconds
of training."""

Inputs = npt.NDArray[Any]
"""Texts, (rows,), or vectors of texts, (rows, hidden)."""

Fit = Callable[[Inputs, BoolArray], Callable[[Inputs], Float32Array]]
"""From inputs and gold, (rows, labels), to what scores others, (rows, labels) in [0, 1]."""

HALF = 0.5

PLAIN = (
    "train.learning_rate=5e-5",
    "train.epoch_steps=1",
    "train.head_rate=1.0",
    "train.token_dropout=0.0",
    "encoder.frozen_embeddings=false",
    "encoder.dropout=0.1",
)
"""Fine-tuning without a recipe: AdamW with one small rate for all weights, and dropout."""
PLAIN_HEAD = ("head=mean", "head_start=random", "lexical_features=false")
PLAIN_OF_KIND: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "multilabel": (*PLAIN_HEAD, "loss.name=bce", "decision.thresholds.strategy=global"),
        "multiclass": PLAIN_HEAD,
        "token": (),
    }
)
"""The same of a task."""
PLAIN_EPOCHS, PLAIN_EPOCHS_OF_MANY, MANY_ROWS = 20, 4, 1000


def tfidf_svm(one: LabelledSet, rows: pl.DataFrame, _folder: Path) -> tuple[list[Answer], float]:
    """Linear support vector machines over TF-IDF of words and pairs of words."""
    texts, tested = (part[TEXT].to_numpy() for part in (rows, one.tested))
    started = time.perf_counter()

    def fit_texts(inputs: Inputs, gold: BoolArray) -> Callable[[Inputs], Float32Array]:
        fitted = fit("tfidf-svm", list(inputs), gold, pairs=True)
        return lambda others: fitted.score(list(others))

    answer = _fit_classifier(one, texts, rows, fit_texts)
    seconds = time.perf_counter() - started
    return answer(tested), seconds


def frozen_logreg(
    one: LabelledSet, rows: pl.DataFrame, _folder: Path
) -> tuple[list[Answer], float]:
    """Logistic regressions over sentence vectors of the encoder as it is."""
    vectors = SentenceVectors.frozen()
    started = time.perf_counter()
    answer = _fit_classifier(one, vectors.encode(rows[TEXT].to_list()), rows, fit_regression)
    seconds = time.perf_counter() - started
    return answer(SentenceVectors.of_tested(one)), seconds


def setfit(one: LabelledSet, rows: pl.DataFrame, _folder: Path) -> tuple[list[Answer], float]:
    """The same over vectors that were tuned by contrast.

    Labels are decided at 0.5, as in the method's library: vectors that were tuned on all rows say
    nothing of what a threshold does to others.
    """
    vectors, texts = SentenceVectors(), rows[TEXT].to_list()
    started = time.perf_counter()
    vectors.contrast(texts, _gold(one, rows)[0])
    answer = _fit_classifier(one, vectors.encode(texts), rows, fit_regression, threshold=HALF)
    seconds = time.perf_counter() - started
    return answer(vectors.encode(one.tested[TEXT].to_list())), seconds


def finetune(one: LabelledSet, rows: pl.DataFrame, folder: Path) -> tuple[list[Answer], float]:
    """Fine-tuning without a recipe."""
    epochs = PLAIN_EPOCHS if len(rows) <= MANY_ROWS else PLAIN_EPOCHS_OF_MANY
    return train_and_answer(
        one,
        rows,
        folder,
        overrides=(*PLAIN, f"train.epochs={epochs}"),
        task_overrides=PLAIN_OF_KIND[one.kind],
    )


def default(one: LabelledSet, rows: pl.DataFrame, folder: Path) -> tuple[list[Answer], float]:
    """What the product does when a config names its data and nothing else."""
    return train_and_answer(one, rows, folder)


METHODS: Mapping[MethodName, Method] = MappingProxyType(
    {
        "tfidf-svm": tfidf_svm,
        "frozen-logreg": frozen_logreg,
        "setfit": setfit,
        "finetune": finetune,
        "default": default,
    }
)
"""By name, the fastest first."""

SPAN_METHODS: tuple[MethodName, ...] = ("finetune", "default")
"""Those for a kind whose answers are spans."""


def _fit_classifier(
    one: LabelledSet,
    inputs: Inputs,
    rows: pl.DataFrame,
    fit_inputs: Fit,
    threshold: float | None = None,
) -> Callable[[Inputs], list[Answer]]:
    """Fit a classifier, and one threshold to rows that the fit did not see, where it needs one."""
    gold, labels = _gold(one, rows)
    score = _scorer(inputs, gold, fit_inputs)
    if one.kind == "multiclass":
        return lambda others: [
            Answer(labels=(labels[number],)) for number in score(others).argmax(axis=1)
        ]
    if threshold is None:
        unseen = np.zeros(gold.shape, np.float32)
        for inside in each_fold(len(rows)):
            unseen[inside] = _scorer(inputs[~inside], gold[~inside], fit_inputs)(inputs[inside])
        threshold = best_threshold(unseen, gold)
    thresholds = np.full(len(labels), threshold, np.float32)

    def answer(others: Inputs) -> list[Answer]:
        decided = decide(score(others), thresholds)
        return [
            Answer(labels=tuple(labels[number] for number in np.flatnonzero(row)))
            for row in decided
        ]

    return answer


def _scorer(inputs: Inputs, gold: BoolArray, fit_inputs: Fit) -> Callable[[Inputs], Float32Array]:
    """Fit to the labels that some rows have and others lack; 0 or 1 for the others."""
    differs = gold.any(axis=0) & ~gold.all(axis=0)
    score = fit_inputs(inputs, gold[:, differs])

    def of_all(others: Inputs) -> Float32Array:
        scores = np.tile(gold.all(axis=0).astype(np.float32), (len(others), 1))
        scores[:, differs] = score(others)
        return scores

    return of_all


def _gold(one: LabelledSet, rows: pl.DataFrame) -> tuple[BoolArray, tuple[str, ...]]:
    """Gold of the rows, (rows, labels), and the labels that occur."""
    kind = KINDS[one.kind]
    values = [kind.gold_labels(value) for value in kind.read_gold(rows[GOLD].to_arrow())]
    labels = tuple(sorted({label for value in values for label in value}))
    return label_matrix(values, labels, source=one.name), labels
