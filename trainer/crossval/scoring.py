"""The final evaluation: each fold's best weights on the rows that its training never saw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from accelerate import Accelerator

from schemas.arrays import BoolArray, Float32Array
from schemas.config.models import FoldConfig, TrainingRun
from schemas.decision.decide import Calibration, calibrate
from schemas.decision.levels import LabelTree
from schemas.decision.metrics import Hits
from schemas.decision.set_rule import SetRule
from schemas.decision.settings import DecisionConfig
from schemas.decision.thresholds import ThresholdRule, find_thresholds
from schemas.errors import CheckpointError
from schemas.kinds import KINDS
from schemas.kinds.base import corrected
from schemas.tasks.parents import Parents, parents_of
from schemas.text.tokens import TextTokenizer
from trainer.checkpoint.reader import Checkpoint
from trainer.crossval.results import (
    METRICS,
    RANKING_METRICS,
    FoldFacts,
    FoldScores,
    RuleName,
    RuleResult,
    Spread,
    TaskResult,
)
from trainer.data.dataset import load_fold_tests, load_tasks
from trainer.data.task_data import FoldTest, TaskData, TokenizedRows
from trainer.evaluation.held_out import predict
from trainer.evaluation.history import read_history
from trainer.evaluation.scores import evaluate, ranking_scores


@dataclass(frozen=True)
class FoldOutcome:
    """One task of one fold, scored.

    labels: names in column order. positives: training rows of each label.
    gold, probabilities: (rows, labels) of the test rows. domains, languages: one a test row.
    validation_gold, validation_probabilities: (rows, labels), what thresholds are found on.
    parents: coarse label by fine label, empty for labels of one level. decision: of the task.
    """

    facts: FoldFacts
    labels: tuple[str, ...]
    positives: tuple[int, ...]
    gold: BoolArray
    probabilities: Float32Array
    domains: Sequence[str | None] | None
    languages: Sequence[str | None] | None
    validation_gold: BoolArray
    validation_probabilities: Float32Array
    parents: Parents
    decision: DecisionConfig

    @property
    def tree(self) -> LabelTree:
        """Levels of the labels."""
        return LabelTree.of(self.labels, self.parents)

    def decide(self, thresholds: Float32Array) -> BoolArray:
        """Label sets of the test rows, (rows, labels)."""
        return SetRule.of(self.labels, self.decision, self.parents).decide(
            self.probabilities, thresholds
        )


def tested_tasks(config: TrainingRun) -> dict[str, DecisionConfig]:
    """Decisions of the tasks that have thresholds, by task."""
    return {
        name: task.decision
        for name, task in config.tasks.items()
        if isinstance(task.decision, DecisionConfig)
    }


def score_fold(config: TrainingRun, folder: Path) -> dict[str, FoldOutcome]:
    """Score the test rows of one fold for each task that has thresholds.

    config: with the fold. Probabilities are uncalibrated sigmoids, computed in fp32.
    Raises DataError, and CheckpointError if the data has changed since the fold was trained.
    """
    checkpoint = Checkpoint.open(folder)
    accelerator = Accelerator()
    checkpoint.model.to(accelerator.device)
    tokenizer = TextTokenizer(checkpoint.tokenizer, max_tokens=checkpoint.info.max_tokens)
    tasks = load_tasks(config, tokenizer)
    for data in tasks.values():
        _refuse_other_data(data, checkpoint)
    labels = {name: task.labels for name, task in checkpoint.info.tasks.items()}
    tests = load_fold_tests(config, labels, tokenizer)
    return {
        task: _score_task(config, tasks[task], tests[task], checkpoint, accelerator, decision)
        for task, decision in tested_tasks(config).items()
    }


def _score_task(
    config: TrainingRun,
    data: TaskData,
    test: FoldTest,
    checkpoint: Checkpoint,
    accelerator: Accelerator,
    decision: DecisionConfig,
) -> FoldOutcome:
    assert config.fold is not None
    task, trained = data.task, checkpoint.info.tasks[data.task]
    parents = parents_of(trained.options)
    tree = LabelTree.of(trained.labels, parents)

    def probabilities(
        rows: TokenizedRows, corrections: Sequence[Float32Array] | None = None
    ) -> Float32Array:
        path = checkpoint.model.path(task)
        outputs = predict(
            path,
            KINDS[trained.kind].output(path.head.width).in_windows(trained.windows),
            rows,
            pad_id=checkpoint.info.pad_id,
            max_tokens=checkpoint.info.max_tokens,
            bf16=False,
            accelerator=accelerator,
        )
        uncalibrated = Calibration.none(len(trained.labels))
        return tree.probabilities(
            calibrate(np.stack(corrected(outputs, corrections)), uncalibrated)
        )

    scored = probabilities(test.rows)
    return FoldOutcome(
        facts=_fold_facts(config.fold, data, test.rows, checkpoint, scored),
        labels=trained.labels,
        positives=data.positives,
        gold=test.rows.labels,
        probabilities=scored,
        domains=test.labelled.domains,
        languages=test.labelled.languages,
        validation_gold=data.validation.labels,
        validation_probabilities=probabilities(data.validation, checkpoint.corrections(task)),
        parents=parents,
        decision=decision,
    )


def _refuse_other_data(data: TaskData, checkpoint: Checkpoint) -> None:
    if data.sha256() != checkpoint.info.tasks[data.task].training.data_sha256:
        raise CheckpointError(
            f"{checkpoint.files.folder}: the data of task {data.task!r} has changed since this "
            "fold was trained, so that its test rows may have been trained on",
            hint="train again with --overwrite, or restore the data",
        )


def _fold_facts(
    fold: FoldConfig,
    data: TaskData,
    test: TokenizedRows,
    checkpoint: Checkpoint,
    probabilities: Float32Array,
) -> FoldFacts:
    history = read_history(checkpoint.files.history)
    return FoldFacts(
        fold=fold.index + 1,
        train_rows=len(data.train),
        validation_rows=len(data.validation),
        test_rows=len(test),
        best_epoch=checkpoint.info.best_epoch,
        epochs=len(history.epochs),
        training_s=sum(record.seconds for record in history.epochs),
        ranking=ranking_scores(test.labels, probabilities),
    )


def combine(outcomes: Sequence[FoldOutcome], own_rule: ThresholdRule) -> TaskResult:
    """Put the folds of one task together, with columns in the first fold's label order.

    own_rule: that of the config, beside the thresholds with the best micro-F1 and macro-F1.
    """
    labels = outcomes[0].labels
    aligned = [_in_order(outcome, labels) for outcome in outcomes]
    rules: dict[RuleName, ThresholdRule] = {
        "micro": ThresholdRule(strategy="global", objective="f1"),
        "macro": ThresholdRule(strategy="global", objective="macro_f1"),
        "config": own_rule,
    }
    rankings = [outcome.facts.ranking.model_dump() for outcome in aligned]
    return TaskResult(
        labels=labels,
        folds=tuple(outcome.facts for outcome in aligned),
        ranking=_spread(rankings, list(RANKING_METRICS)),
        rules=tuple(_apply(name, rule, aligned) for name, rule in rules.items()),
    )


def _in_order(outcome: FoldOutcome, labels: tuple[str, ...]) -> FoldOutcome:
    """The outcome in another label order: without listed labels each fold has its own order."""
    columns = [outcome.labels.index(label) for label in labels]
    return FoldOutcome(
        facts=outcome.facts,
        labels=labels,
        positives=tuple(outcome.positives[column] for column in columns),
        gold=outcome.gold[:, columns],
        probabilities=outcome.probabilities[:, columns],
        domains=outcome.domains,
        languages=outcome.languages,
        validation_gold=outcome.validation_gold[:, columns],
        validation_probabilities=outcome.validation_probabilities[:, columns],
        parents=outcome.parents,
        decision=outcome.decision,
    )


def _apply(name: RuleName, rule: ThresholdRule, outcomes: Sequence[FoldOutcome]) -> RuleResult:
    thresholds = [
        find_thresholds(outcome.validation_probabilities, outcome.validation_gold, rule)
        for outcome in outcomes
    ]
    decided = [outcome.decide(found) for outcome, found in zip(outcomes, thresholds, strict=True)]
    folds = tuple(
        FoldScores(
            thresholds=tuple(float(value) for value in found),
            scores=Hits.count(outcome.gold, chosen, outcome.tree).scores(),
        )
        for outcome, found, chosen in zip(outcomes, thresholds, decided, strict=True)
    )
    positives = np.mean([outcome.positives for outcome in outcomes], axis=0).round()
    pooled = evaluate(
        np.concatenate([outcome.gold for outcome in outcomes]),
        np.concatenate([outcome.probabilities for outcome in outcomes]),
        np.concatenate(decided),
        labels=outcomes[0].labels,
        positives=[int(rows) for rows in positives],
        domains=_pooled([outcome.domains for outcome in outcomes]),
        languages=_pooled([outcome.languages for outcome in outcomes]),
        tree=outcomes[0].tree,
    )
    spread = _spread([fold.scores.model_dump() for fold in folds], list(METRICS))
    return RuleResult(name=name, rule=rule, folds=folds, spread=spread, pooled=pooled)


def _spread(folds: Sequence[dict[str, float | None]], metrics: Sequence[str]) -> dict[str, Spread]:
    """Mean and deviation of each metric, over the folds where it is defined; none if nowhere."""
    known = {
        metric: [value for fold in folds if (value := fold[metric]) is not None]
        for metric in metrics
    }
    return {metric: Spread.of(values) for metric, values in known.items() if values}


def _pooled(columns: Sequence[Sequence[str | None] | None]) -> list[str | None] | None:
    """One column over all folds; all have it, or none has."""
    return [value for column in columns if column is not None for value in column] or None
