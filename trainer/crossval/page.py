"""`cross-validation.md`: the tables of a cross-validation."""

from __future__ import annotations

from collections.abc import Sequence

from schemas.decision.metrics import LabelScores
from schemas.markdown import markdown_code, markdown_table, markdown_text, score_text
from trainer.crossval.results import (
    METRICS,
    RANKING_METRICS,
    CrossValidation,
    RuleName,
    RuleResult,
    Spread,
    TaskResult,
)

RULE_TITLES: dict[RuleName, str] = {
    "micro": "One threshold, best micro-F1",
    "macro": "One threshold, best macro-F1",
    "config": "Thresholds by the rule of the config",
}


def cross_validation_page(found: CrossValidation) -> str:
    """The whole page."""
    intro = (
        f"# Cross-validation\n\n{found.folds} folds, seed {found.seed}, encoder "
        f"{markdown_code(found.encoder)}, config {found.config_sha256[:12]}. Each fold was tested "
        "on rows that neither its training nor its thresholds have seen. Curves by epoch: "
        "[curves.png](curves.png).\n"
    )
    sections = [
        f"## {markdown_text(name)}\n\n{task_tables(task)}" for name, task in found.tasks.items()
    ]
    return "\n".join([intro, *sections])


def task_tables(task: TaskResult) -> str:
    """Every table of one task."""
    own = next(rule for rule in task.rules if rule.name == "config")
    blocks = [
        f"Mean and standard deviation over the folds. Macro-F1 counts all {len(task.labels)} "
        "labels in every fold; one without a test row there counts as 0.\n",
        summary_table(task),
        *(f"### {RULE_TITLES[rule.name]}\n\n{fold_table(rule)}" for rule in task.rules),
        f"### Ranking, without a threshold\n\n{ranking_table(task)}",
        f"### Training\n\n{training_table(task)}",
        "### All test rows together\n\nThresholds by the rule of the config.\n",
        own.pooled.as_markdown(),
        f"### Labels\n\n{own.pooled.labels_as_markdown()}",
    ]
    if any(len(set(fold.thresholds)) > 1 for fold in own.folds):
        blocks.append(f"### Thresholds\n\n{threshold_table(task, own)}")
    return "\n".join(blocks)


def summary_table(task: TaskResult) -> str:
    """One row a rule: each metric over the folds."""
    return markdown_table(
        ["thresholds", *METRICS.values()],
        [
            [RULE_TITLES[rule.name], *(spread_text(rule.spread[name]) for name in METRICS)]
            for rule in task.rules
        ],
    )


def fold_table(rule: RuleResult) -> str:
    """One row a fold, then mean, spread, and all test rows pooled."""
    rows = [
        [str(number), _range(fold.thresholds), *_cells(fold.scores)]
        for number, fold in enumerate(rule.folds, start=1)
    ]
    spreads = [rule.spread[name] for name in METRICS]
    rows.append(["mean", "", *(score_text(spread.mean) for spread in spreads)])
    rows.append(["deviation", "", *(score_text(spread.deviation) for spread in spreads)])
    rows.append(["pooled", "", *_cells(rule.pooled.overall)])
    return markdown_table(["fold", "threshold", *METRICS.values()], rows)


def ranking_table(task: TaskResult) -> str:
    """ROC-AUC and average precision of each fold; macro over the labels where they are defined."""
    rows = [
        [
            str(facts.fold),
            *(score_text(getattr(facts.ranking, name)) for name in RANKING_METRICS),
            str(facts.ranking.average_precision_labels),
        ]
        for facts in task.folds
    ]
    spreads = [spread_text(task.ranking.get(name)) for name in RANKING_METRICS]
    return markdown_table(
        ["fold", *RANKING_METRICS.values(), "labels with test rows"],
        [*rows, ["mean", *spreads, ""]],
    )


def training_table(task: TaskResult) -> str:
    """Rows and epochs of each fold."""
    return markdown_table(
        ["fold", "training rows", "held-out rows", "test rows", "best epoch", "epochs", "seconds"],
        [
            [
                str(facts.fold),
                *(f"{n:,}" for n in (facts.train_rows, facts.validation_rows, facts.test_rows)),
                str(facts.best_epoch),
                str(facts.epochs),
                f"{facts.training_s:,.0f}",
            ]
            for facts in task.folds
        ],
    )


def threshold_table(task: TaskResult, rule: RuleResult) -> str:
    """The threshold of each label in each fold."""
    return markdown_table(
        ["label", *(f"fold {facts.fold}" for facts in task.folds)],
        [
            [label, *(score_text(fold.thresholds[column]) for fold in rule.folds)]
            for column, label in enumerate(task.labels)
        ],
    )


def spread_text(spread: Spread | None) -> str:
    """Mean and deviation in one cell."""
    if spread is None:
        return "–"
    return f"{score_text(spread.mean)} ± {score_text(spread.deviation)}"


def _cells(scores: LabelScores) -> list[str]:
    return [score_text(getattr(scores, name)) for name in METRICS]


def _range(thresholds: Sequence[float]) -> str:
    low, high = min(thresholds), max(thresholds)
    return score_text(low) if low == high else f"{score_text(low)} to {score_text(high)}"
