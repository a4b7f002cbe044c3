"""What a cross-validation leaves: files, and the numbers in `cross-validation.json`."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from schemas.decision.metrics import LabelScores
from schemas.decision.thresholds import ThresholdRule
from trainer.evaluation.scores import Evaluation, RankingScores

METRICS = {
    "micro_f1": "micro-F1",
    "macro_f1": "macro-F1",
    "weighted_f1": "weighted F1",
    "samples_f1": "samples F1",
    "precision": "precision",
    "recall": "recall",
    "exact_match": "exact match",
}
"""Fields of `LabelScores` that are compared between folds, and how they are called."""

RANKING_METRICS = {
    "micro_roc_auc": "micro ROC-AUC",
    "macro_roc_auc": "macro ROC-AUC",
    "micro_average_precision": "micro AP",
    "macro_average_precision": "macro AP",
}
"""Fields of `RankingScores` that are compared between folds."""

RuleName = Literal["micro", "macro", "config"]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Spread(_Record):
    """A metric over folds. deviation: sample standard deviation, None of fewer than two values."""

    mean: float
    deviation: float | None

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Mean and deviation of at least one value."""
        several = len(values) > 1
        return cls(
            mean=statistics.fmean(values), deviation=statistics.stdev(values) if several else None
        )


class FoldFacts(_Record):
    """How one fold was trained, and what of its test rows no threshold enters.

    fold: from 1. training_s: seconds of optimizer steps.
    """

    fold: int
    train_rows: int
    validation_rows: int
    test_rows: int
    best_epoch: int
    epochs: int
    training_s: float
    ranking: RankingScores


class FoldScores(_Record):
    """The test rows of one fold. thresholds: in label order, found on its validation rows."""

    thresholds: tuple[float, ...]
    scores: LabelScores


class RuleResult(_Record):
    """One rule to choose thresholds. pooled: the test rows of all folds together."""

    name: RuleName
    rule: ThresholdRule
    folds: tuple[FoldScores, ...]
    spread: dict[str, Spread]
    pooled: Evaluation


class TaskResult(_Record):
    """One task. ranking: by metric, over the folds where it is defined."""

    labels: tuple[str, ...]
    folds: tuple[FoldFacts, ...]
    ranking: dict[str, Spread]
    rules: tuple[RuleResult, ...]


class CrossValidation(_Record):
    """`cross-validation.json`. config_sha256: of the config without a fold."""

    config_sha256: str
    encoder: str
    seed: int
    folds: int
    tasks: dict[str, TaskResult]


@dataclass(frozen=True)
class CrossValidationFiles:
    """Paths inside the output folder."""

    folder: Path

    @property
    def results(self) -> Path:
        return self.folder / "cross-validation.json"

    @property
    def page(self) -> Path:
        return self.folder / "cross-validation.md"

    @property
    def curves(self) -> Path:
        return self.folder / "curves.png"

    def folds(self) -> list[Path]:
        """Checkpoint folders that are there, of any number of folds."""
        return sorted(path for path in self.folder.glob("fold-*") if path.is_dir())

    def fold(self, index: int) -> Path:
        """Checkpoint folder of a fold. index: from 0; the folder's name counts from 1."""
        return self.folder / f"fold-{index + 1}"
