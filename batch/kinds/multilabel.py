"""Multilabel: counts of decided labels, and their part of the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pydantic import BaseModel, JsonValue, ValidationError

from batch.counting.groups import Groups
from batch.counting.label_sums import LabelColumns, LabelSums, LabelTotals
from batch.counting.labels import PROBABILITY_UNIT, LabelCounts, count_label_rows
from batch.kinds.base import ChunkAnswers, RowFacts
from batch.kinds.sections import (
    Number,
    OthersReport,
    Report,
    ReportHead,
    RowCounts,
    SectionReport,
    rounded,
)
from schemas.decision.metrics import Hits, LabelScores
from schemas.validation import validation_problems


class LabelReport(BaseModel):
    """One label in one domain."""

    model_config = RowCounts.model_config

    label: str
    rows: int
    """Scored rows that got the label."""
    share: Number
    """`rows` as a share of the scored rows."""
    mean_probability: Number
    """Over all scored rows."""
    probability_histogram: tuple[int, ...]
    """Scored rows by probability, in equal bins over [0, 1]."""
    gold_rows: int | None = None
    """Rows whose gold labels have it; this and the scores are null without gold."""
    precision: Number | None = None
    """Null too where no compared row got the label."""
    recall: Number | None = None
    """Null too where no gold row has the label."""
    f1: Number | None = None
    """Null too where neither has it; macro F1 counts that as 0."""


class UnlabelledShare(RowCounts):
    """Rows to which no label applies."""

    unlabelled_share: Number
    """Share of the scored rows without any label."""


class LabelFacts(SectionReport):
    """Labels in one domain."""

    labels_a_row: tuple[int, ...]
    """Scored rows with 0, 1, 2, 3, 4, and 5 or more labels."""
    labels: tuple[LabelReport, ...]
    """In label order."""
    gold: LabelScores | None
    """Null where no row has gold labels."""

    @property
    def compared(self) -> int | None:
        """Rows that are compared with gold labels."""
        return None if self.gold is None else self.gold.rows

    @property
    def seen(self) -> list[LabelReport]:
        """Labels that were given, or that gold has, the most frequent first."""
        seen = [label for label in self.labels if label.rows or label.gold_rows]
        return sorted(seen, key=lambda label: -label.rows)

    @property
    def unseen(self) -> list[LabelReport]:
        """The other labels, in label order."""
        return [label for label in self.labels if not (label.rows or label.gold_rows)]


class LabelSection(LabelFacts, UnlabelledShare):
    """One domain, or the whole corpus."""


class LabelOthers(OthersReport, LabelSection):
    """Domains that are not described one by one, counted together."""


class Thresholds(ReportHead):
    """Thresholds of a task."""

    thresholds: tuple[Number, ...]
    """In label order."""


class LabelTaskReport(Report, Thresholds):
    """`report.json` of a multi-label task."""

    template: ClassVar[str] = "labels.html.j2"
    legend: ClassVar[str] = "labels_legend.html.j2"

    overall: LabelSection
    domains: Mapping[str, LabelSection]
    others: LabelOthers | None = None

    @property
    def threshold_of(self) -> Mapping[str, float]:
        """Threshold by label."""
        return dict(zip(self.labels, self.thresholds, strict=True))

    @property
    def position_of(self) -> Mapping[str, int]:
        """Place in label order by label."""
        return {label: position for position, label in enumerate(self.labels)}

    @property
    def highest_share(self) -> float:
        """Highest share of a label in a domain."""
        labels = [label for section in self.domains.values() for label in section.labels]
        return max((label.share for label in labels), default=0.0)


class MultilabelBatchKind:
    """See `batch.kinds.base.BatchKind`."""

    Others = LabelOthers

    def tally(self, groups: Groups, answers: ChunkAnswers) -> LabelCounts:
        """Count labels, probabilities and hits by domain."""
        return count_label_rows(
            groups,
            probabilities=answers.decided.probabilities,
            decided=answers.decided.decided,
            scored=answers.scored,
            gold=answers.targets,
            compared=answers.compared,
        )

    def pack(self, tally: LabelCounts) -> dict[str, JsonValue]:
        """Columns in base64."""
        packed: dict[str, JsonValue] = LabelColumns.of(tally).model_dump(exclude_none=True)
        return packed

    def unpack(self, packed: Mapping[str, object], *, domains: int, labels: int) -> LabelCounts:
        """Read what `pack` gave."""
        try:
            return LabelColumns.model_validate(packed).counts(domains, labels)
        except ValidationError as error:
            raise ValueError(validation_problems(error, "tally")) from error

    def sums(self, height: int, labels: int) -> LabelSums:
        """Sums of no chunks yet."""
        return LabelSums(height, labels)

    def section(self, rows: RowFacts, total: LabelTotals, labels: Sequence[str]) -> LabelSection:
        """Shares, probabilities and scores of every label."""
        scored = max(rows.scored, 1)
        hits = total.hits if total.hits is not None and total.hits.rows else None
        return LabelSection(
            rows=rows.rows,
            ok=rows.ok,
            truncated=rows.truncated,
            empty=rows.empty,
            quarantined=rows.quarantined,
            unlabelled_share=int(total.labels_a_row[0]) / scored,
            tokens_mean=rows.tokens / scored,
            token_histogram=tuple(rows.token_histogram.tolist()),
            labels_a_row=tuple(total.labels_a_row.tolist()),
            labels=tuple(
                _label(total, hits, scored, index=index, label=label)
                for index, label in enumerate(labels)
            ),
            gold=None if hits is None else _rounded_scores(hits.scores()),
        )

    def report(
        self, decision: Mapping[str, JsonValue], common: Mapping[str, Any]
    ) -> LabelTaskReport:
        """The report, with the threshold of each label."""
        thresholds = decision["thresholds"]
        assert isinstance(thresholds, list | tuple)
        return LabelTaskReport.model_validate({**common, "thresholds": tuple(thresholds)})


def _label(
    total: LabelTotals, hits: Hits | None, scored: int, *, index: int, label: str
) -> LabelReport:
    right = missed = wrong = 0
    if hits is not None:
        right = int(hits.true_positives[index])
        missed = int(hits.false_negatives[index])
        wrong = int(hits.false_positives[index])
    return LabelReport(
        label=label,
        rows=int(total.label_counts[index]),
        share=int(total.label_counts[index]) / scored,
        mean_probability=int(total.probability_sum[index]) / PROBABILITY_UNIT / scored,
        probability_histogram=tuple(total.probability_histogram[index].tolist()),
        gold_rows=None if hits is None else right + missed,
        precision=_ratio(right, right + wrong),
        recall=_ratio(right, right + missed),
        f1=_ratio(2 * right, 2 * right + missed + wrong),
    )


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _rounded_scores(scores: LabelScores) -> LabelScores:
    return LabelScores.model_validate(
        {
            name: rounded(number) if isinstance(number, float) else number
            for name, number in scores.model_dump().items()
        }
    )
