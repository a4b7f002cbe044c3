"""Counting hits and misses: mergeable counts, and the scores made from them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from schemas.arrays import BoolArray, Int64Array
from schemas.decision.levels import ONE_LEVEL, LabelTree


class Scores(BaseModel):
    """Scores of the answers to some rows; each kind of task has its own."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    rows: int

    def headline(self) -> dict[str, float]:
        """Scores in [0, 1] that a reduced precision may not lower."""
        raise NotImplementedError

    def summary(self) -> str:
        """The headline scores in words."""
        return ", ".join(
            f"{score_name(name)} {score:.3f}" for name, score in self.headline().items()
        )


def score_name(name: str) -> str:
    """Name of a headline score as messages have it."""
    return name.replace("_f1", "-F1").replace("_", " ")


class F1Scores(Scores):
    """Scores in [0, 1] of every kind that decides labels; a division by zero counts as 0."""

    micro_f1: float
    macro_f1: float

    def headline(self) -> dict[str, float]:
        """Micro and macro F1."""
        return {"micro_f1": self.micro_f1, "macro_f1": self.macro_f1}


class LabelScores(F1Scores):
    """Scores of rows with any number of labels.

    macro_f1 is the mean over all labels of the task, seen or not; weighted_f1 the mean over labels
    weighted by their gold rows; samples_f1 the mean over rows, where a row without gold and without
    predicted labels counts as 1.
    """

    samples_f1: float
    exact_match: float
    precision: float
    recall: float
    macro_precision: float
    macro_recall: float
    weighted_f1: float
    levels: LevelScores | None = Field(default=None, exclude_if=lambda levels: levels is None)
    """None, and not written, for a task whose labels have no parents."""

    def summary(self) -> str:
        """The headline scores in words, those of each level too."""
        if self.levels is None:
            return super().summary()
        coarse, fine = self.levels.coarse.summary(), self.levels.fine.summary()
        return f"{super().summary()} (coarse labels: {coarse}; fine labels: {fine})"


class LevelScores(BaseModel):
    """Scores of two-level labels by level, each as if the task had those labels alone."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    coarse: LabelScores
    """Labels without a parent, with or without fine ones."""
    fine: LabelScores
    """Labels with a parent."""


LabelScores.model_rebuild()  # its field `levels` is defined only now


@dataclass(frozen=True)
class Hits:
    """Counts that add up over chunks and domains.

    true_positives, false_positives, false_negatives: (labels,) int64.
    rows, exact_rows: rows counted, rows whose label set is exactly right.
    samples_f1_sum: sum over rows of the row's F1.
    levels: the same of coarse and of fine labels; None for labels of one level.
    """

    true_positives: Int64Array
    false_positives: Int64Array
    false_negatives: Int64Array
    rows: int
    exact_rows: int
    samples_f1_sum: float
    levels: LevelHits | None = None

    @classmethod
    def zero(cls, labels: int) -> Hits:
        """Counts of nothing, for `labels` labels."""
        none = np.zeros(labels, np.int64)
        return cls(none, none, none, rows=0, exact_rows=0, samples_f1_sum=0.0)

    @classmethod
    def count(cls, gold: BoolArray, decided: BoolArray, tree: LabelTree = ONE_LEVEL) -> Hits:
        """Compare gold with decided labels, both (rows, labels) bool.

        tree: of the labels; it adds counts by level.
        """
        both = gold & decided
        sizes = gold.sum(axis=1) + decided.sum(axis=1)
        row_f1 = np.where(sizes == 0, 1.0, 2 * both.sum(axis=1) / np.maximum(sizes, 1))
        return cls(
            true_positives=both.sum(axis=0, dtype=np.int64),
            false_positives=(decided & ~gold).sum(axis=0, dtype=np.int64),
            false_negatives=(gold & ~decided).sum(axis=0, dtype=np.int64),
            rows=len(gold),
            exact_rows=int((gold == decided).all(axis=1).sum()),
            samples_f1_sum=float(row_f1.sum()),
            levels=LevelHits.count(gold, decided, tree) if tree.children else None,
        )

    def __add__(self, other: Hits) -> Hits:
        levels = self.levels or other.levels
        if self.levels is not None and other.levels is not None:
            levels = self.levels + other.levels
        return Hits(
            true_positives=self.true_positives + other.true_positives,
            false_positives=self.false_positives + other.false_positives,
            false_negatives=self.false_negatives + other.false_negatives,
            rows=self.rows + other.rows,
            exact_rows=self.exact_rows + other.exact_rows,
            samples_f1_sum=self.samples_f1_sum + other.samples_f1_sum,
            levels=levels,
        )

    def label_f1(self) -> npt.NDArray[np.float64]:
        """F1 of each label, (labels,) float64."""
        return _ratio(
            2 * self.true_positives,
            2 * self.true_positives + self.false_positives + self.false_negatives,
        )

    def gold_rows(self) -> Int64Array:
        """Rows that have each label in gold, (labels,) int64."""
        return self.true_positives + self.false_negatives

    def label_precision(self) -> npt.NDArray[np.float64]:
        """Precision of each label, (labels,) float64."""
        return _ratio(self.true_positives, self.true_positives + self.false_positives)

    def label_recall(self) -> npt.NDArray[np.float64]:
        """Recall of each label, (labels,) float64."""
        return _ratio(self.true_positives, self.gold_rows())

    def scores(self) -> LabelScores:
        """Scores of everything counted so far."""
        predicted = self.true_positives + self.false_positives
        actual = self.gold_rows()
        label_f1 = self.label_f1()
        hits, predicted_sum, actual_sum = (
            int(counts.sum()) for counts in (self.true_positives, predicted, actual)
        )
        return LabelScores(
            rows=self.rows,
            micro_f1=2 * hits / max(predicted_sum + actual_sum, 1),
            macro_f1=float(label_f1.mean()),
            samples_f1=self.samples_f1_sum / max(self.rows, 1),
            exact_match=self.exact_rows / max(self.rows, 1),
            precision=hits / max(predicted_sum, 1),
            recall=hits / max(actual_sum, 1),
            macro_precision=float(self.label_precision().mean()),
            macro_recall=float(self.label_recall().mean()),
            weighted_f1=float(label_f1 @ actual) / max(actual_sum, 1),
            levels=None if self.levels is None else self.levels.scores(),
        )


@dataclass(frozen=True)
class LevelHits:
    """Counts of coarse and of fine labels."""

    coarse: Hits
    fine: Hits

    @classmethod
    def count(cls, gold: BoolArray, decided: BoolArray, tree: LabelTree) -> LevelHits:
        """Compare gold with decided labels, both (rows, labels) bool."""
        is_fine = np.isin(np.arange(gold.shape[1]), tree.fine)
        coarse, fine = (
            Hits.count(gold[:, of_level], decided[:, of_level]) for of_level in (~is_fine, is_fine)
        )
        return cls(coarse, fine)

    def __add__(self, other: LevelHits) -> LevelHits:
        return LevelHits(self.coarse + other.coarse, self.fine + other.fine)

    def scores(self) -> LevelScores:
        """Scores of each level."""
        return LevelScores(coarse=self.coarse.scores(), fine=self.fine.scores())


def _ratio(numerator: Int64Array, denominator: Int64Array) -> npt.NDArray[np.float64]:
    return np.asarray(numerator / np.maximum(denominator, 1), dtype=np.float64)
