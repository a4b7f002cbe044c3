"""Multiclass: counts of decided labels, and their part of the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from pydantic import BaseModel, JsonValue, ValidationError

from batch.counting.classes import (
    ClassColumns,
    ClassCounts,
    ClassSums,
    ClassTotals,
    count_class_rows,
)
from batch.counting.groups import Groups
from batch.kinds.base import ChunkAnswers, RowFacts
from batch.kinds.labels import (
    LabelHeat,
    LabelReport,
    LabelTable,
    label_reports,
    rounded_scores,
)
from batch.kinds.sections import Number, OthersReport, Report, RowCounts, SectionReport
from schemas.arrays import Int64Array
from schemas.decision.classes import ClassScores, class_scores
from schemas.decision.metrics import Hits
from schemas.validation import validation_problems

SHOWN_LABELS = 25
"""Rows and columns of the table of confusions on the page; report.json has all."""


class ConfusedRows(BaseModel):
    """Rows of one gold label that got one label."""

    model_config = RowCounts.model_config

    gold: str
    label: str | None
    """The label that they got; null for none."""
    rows: int


class ClassSection(LabelTable, SectionReport):
    """One domain, or the whole corpus."""

    unlabelled: int
    """Scored rows without a label, because none was probable enough."""
    unlabelled_share: Number
    """Share of the scored rows."""
    labels: tuple[LabelReport, ...]
    """In label order."""
    gold: ClassScores | None
    """Null where no row has a gold label."""
    confusion: tuple[ConfusedRows, ...] | None
    """Compared rows by gold and given label, the most frequent first; null without gold, or for
    more than 200 labels."""

    @property
    def compared(self) -> int | None:
        """Rows that are compared with gold labels."""
        return None if self.gold is None else self.gold.rows

    @property
    def confused(self) -> list[str]:
        """Labels that the table of confusions shows, the most frequent in gold, in label order."""
        frequent = sorted(self.labels, key=lambda label: -(label.gold_rows or 0))[:SHOWN_LABELS]
        shown = {label.label for label in frequent}
        return [label.label for label in self.labels if label.label in shown]

    @property
    def gold_rows_of(self) -> Mapping[str, int]:
        """Compared rows by gold label."""
        return {label.label: label.gold_rows or 0 for label in self.labels}

    @property
    def has_unanswered(self) -> bool:
        """True if a compared row got no label."""
        return any(cell.label is None for cell in self.confusion or ())

    @property
    def rows_of(self) -> Mapping[tuple[str, str | None], int]:
        """Compared rows by gold and given label."""
        return {(cell.gold, cell.label): cell.rows for cell in self.confusion or ()}


class ClassOthers(OthersReport, ClassSection):
    """Domains that are not described one by one, counted together."""


class ClassTaskReport(LabelHeat, Report):
    """`report.json` of a task with one label a row."""

    template: ClassVar[str] = "labels.html.j2"
    legend: ClassVar[str] = "classes_legend.html.j2"

    least_probability: Number
    """Below it a row gets no label."""
    overall: ClassSection
    domains: Mapping[str, ClassSection]
    others: ClassOthers | None = None

    @property
    def has_thresholds(self) -> bool:
        """True if a label may be too improbable to be given."""
        return self.least_probability > 0

    @property
    def threshold_of(self) -> Mapping[str, float]:
        """Least probability by label."""
        return dict.fromkeys(self.labels, self.least_probability)


class MulticlassBatchKind:
    """See `batch.kinds.base.BatchKind`."""

    Others = ClassOthers

    def cells(self, width: int) -> int:
        """Those of each label."""
        return width

    def tally(self, groups: Groups, answers: ChunkAnswers) -> ClassCounts:
        """Count labels, probabilities, hits and confusions by domain."""
        return count_class_rows(
            groups,
            probabilities=answers.decided.probabilities,
            decided=answers.decided.decided,
            scored=answers.scored,
            gold=answers.targets,
            compared=answers.compared,
        )

    def pack(self, tally: ClassCounts) -> dict[str, JsonValue]:
        """Columns in base64."""
        packed: dict[str, JsonValue] = ClassColumns.of(tally).model_dump(exclude_none=True)
        return packed

    def unpack(self, packed: Mapping[str, object], *, domains: int, width: int) -> ClassCounts:
        """Read what `pack` gave."""
        try:
            return ClassColumns.model_validate(packed).counts(domains, width)
        except ValidationError as error:
            raise ValueError(validation_problems(error, "tally")) from error

    def sums(self, height: int, width: int) -> ClassSums:
        """Sums of no chunks yet."""
        return ClassSums(height, width)

    def section(self, rows: RowFacts, total: ClassTotals, labels: Sequence[str]) -> ClassSection:
        """Shares, probabilities, scores and confusions of the labels."""
        scored = max(rows.scored, 1)
        hits = total.labels.hits
        hits = hits if hits is not None and hits.rows else None
        unlabelled = int(total.labels.labels_a_row[0])
        return ClassSection(
            rows=rows.rows,
            ok=rows.ok,
            windowed=rows.windowed,
            truncated=rows.truncated,
            empty=rows.empty,
            quarantined=rows.quarantined,
            tokens_mean=rows.tokens / scored,
            token_histogram=tuple(rows.token_histogram.tolist()),
            labels=label_reports(total.labels, hits, scored, labels),
            unlabelled=unlabelled,
            unlabelled_share=unlabelled / scored,
            gold=None if hits is None else rounded_scores(_scores(hits)),
            confusion=None if hits is None else _confused_rows(total.confusion, labels),
        )

    def report(
        self, decision: Mapping[str, JsonValue], common: Mapping[str, Any]
    ) -> ClassTaskReport:
        """The report, with the least probability of a label."""
        least = decision["least_probability"]
        return ClassTaskReport.model_validate({**common, "least_probability": least})


def _scores(hits: Hits) -> ClassScores:
    decided = hits.true_positives + hits.false_positives
    return class_scores(hits.true_positives, decided, hits.gold_rows())


def _confused_rows(
    confusion: Int64Array | None, labels: Sequence[str]
) -> tuple[ConfusedRows, ...] | None:
    """The cells that are not 0, the most frequent first, equal ones in label order."""
    if confusion is None:
        return None
    names = [*labels, None]
    cells = [
        ConfusedRows(gold=labels[gold], label=names[given], rows=int(confusion[gold, given]))
        for gold, given in np.argwhere(confusion).tolist()
    ]
    return tuple(sorted(cells, key=lambda cell: -cell.rows))
