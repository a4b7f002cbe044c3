"""Statistics of tasks that decide labels, made from arrays and read as one flat record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from batch.counting.label_sums import LabelTotals
from batch.kinds.multilabel import LabelTaskReport
from batch.report.build import TaskFacts, build_report
from batch.report.stats import ChunkStats, RunStats, TaskGold, count_rows
from batch.report.totals import DomainStats, TaskStats, merge_stats
from schemas.arrays import BoolArray, Float32Array, Int32Array, Int64Array
from schemas.decision.decide import Calibration
from schemas.decision.levels import ONE_LEVEL, LabelTree
from schemas.decision.metrics import Hits
from schemas.kinds.label_sets import LabelSets
from schemas.kinds.multilabel import MultilabelDecision
from schemas.tasks.parents import NO_PARENTS, Parents
from tests.label_tasks import KIND

TASK = "narrative"


def count_labels(
    *,
    domains: Sequence[str | None],
    statuses: Sequence[str],
    tokens: Int32Array | Int64Array,
    probabilities: Float32Array,
    decided: BoolArray,
    gold: BoolArray | None = None,
    has_gold: BoolArray | None = None,
    tree: LabelTree = ONE_LEVEL,
) -> ChunkStats:
    """Count rows; has_gold: rows whose gold labels are known, None means all of them."""
    labels = tuple(f"label {number}" for number in range(decided.shape[1]))
    labelled = np.ones(len(decided), np.bool_) if has_gold is None else has_gold
    return count_rows(
        kind=KIND,
        width=len(labels),
        domains=domains,
        statuses=statuses,
        tokens=tokens,
        decided=LabelSets(labels, probabilities, decided, tree),
        gold=None if gold is None else TaskGold(gold, labelled),
    )


@dataclass(frozen=True)
class FlatStats:
    """Counts of a domain: those of every kind, and those of labels."""

    rows: int
    ok: int
    windowed: int
    truncated: int
    empty: int
    quarantined: int
    tokens: int
    token_histogram: Int64Array
    labels_a_row: Int64Array
    label_counts: Int64Array
    probability_sum: Int64Array
    probability_histogram: Int64Array
    hits: Hits | None

    @property
    def scored(self) -> int:
        """Rows that the model has read."""
        return self.ok + self.windowed + self.truncated


@dataclass(frozen=True)
class FlatTask:
    """Counts of a task: of all rows, and by domain."""

    total: FlatStats
    domains: dict[str, FlatStats]


def flat(stats: DomainStats) -> FlatStats:
    """One record of what is counted of a domain."""
    assert isinstance(stats.tally, LabelTotals)
    return FlatStats(**vars(stats.rows), **vars(stats.tally))


def flat_task(stats: TaskStats) -> FlatTask:
    """The same of a task."""
    domains = {name: flat(counts) for name, counts in stats.domains.items()}
    return FlatTask(flat(stats.total), domains)


def added(*chunks: ChunkStats) -> TaskStats:
    """Statistics of chunks added up."""
    runs = [RunStats({TASK: chunk}) for chunk in chunks]
    return merge_stats(lambda: runs).tasks[TASK]


def label_report(
    stats: TaskStats,
    labels: Sequence[str],
    *,
    gold_column: str | None,
    parents: Parents = NO_PARENTS,
) -> LabelTaskReport:
    """A report with thresholds of 0.4."""
    decision = MultilabelDecision(
        thresholds=(0.4,) * len(labels),
        calibration=Calibration.none(len(labels)),
        parents=dict(parents),
    )
    facts = TaskFacts(
        task=TASK,
        kind=KIND,
        labels=tuple(labels),
        decision=decision.model_dump(mode="json"),
        gold_column=gold_column,
    )
    report = build_report(stats, facts)
    assert isinstance(report, LabelTaskReport)
    return report
