"""Multilabel: counts of decided labels, and their part of the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pydantic import Field, JsonValue, ValidationError

from batch.counting.groups import Groups
from batch.counting.label_sums import LabelColumns, LabelSums, LabelTotals
from batch.counting.labels import LabelCounts, count_label_rows
from batch.kinds.base import ChunkAnswers, RowFacts
from batch.kinds.labels import (
    LabelHeat,
    LabelReport,
    LabelTable,
    NestedLabel,
    UnlabelledShare,
    label_reports,
    nested_labels,
    rounded_scores,
)
from batch.kinds.sections import (
    Number,
    OthersReport,
    Report,
    ReportHead,
    SectionReport,
)
from schemas.decision.metrics import LabelScores
from schemas.decision.set_rule import set_size_text
from schemas.kinds.multilabel import MultilabelDecision
from schemas.text.short_names import short_name
from schemas.validation import validation_problems


class LabelFacts(LabelTable, SectionReport):
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
    def unlabelled(self) -> int:
        """Scored rows without any label."""
        return self.labels_a_row[0]


class LabelSection(LabelFacts, UnlabelledShare):
    """One domain, or the whole corpus."""


class LabelOthers(OthersReport, LabelSection):
    """Domains that are not described one by one, counted together."""


class Thresholds(ReportHead):
    """Thresholds of a task."""

    thresholds: tuple[Number, ...]
    """In label order."""
    parents: Mapping[str, str] = Field(default_factory=dict, exclude_if=lambda parents: not parents)
    """Coarse label by fine label; not written for labels of one level."""
    fewest_labels: int = Field(default=0, exclude_if=lambda fewest: fewest == 0)
    """Minimum number of labels per article; not written if there is none."""
    most_labels: int = Field(default=0, exclude_if=lambda most: most == 0)
    """Maximum number of labels per article; not written if there is none."""


class LabelTaskReport(LabelHeat, Report, Thresholds):
    """`report.json` of a multi-label task."""

    template: ClassVar[str] = "labels.html.j2"
    legend: ClassVar[str] = "labels_legend.html.j2"

    overall: LabelSection
    domains: Mapping[str, LabelSection]
    others: LabelOthers | None = None

    def nested(self, labels: Sequence[LabelReport]) -> list[NestedLabel]:
        """Labels of a table, fine ones below their coarse one."""
        return nested_labels(labels, self.parents)

    @property
    def set_size(self) -> str:
        """Number of labels per article in words; empty if it is not limited."""
        return set_size_text(self)

    @property
    def has_thresholds(self) -> bool:
        """True: each label has one."""
        return True

    @property
    def threshold_of(self) -> Mapping[str, float]:
        """Threshold by label."""
        return dict(zip(self.labels, self.thresholds, strict=True))


class MultilabelBatchKind:
    """See `batch.kinds.base.BatchKind`."""

    Others = LabelOthers

    def cells(self, width: int) -> int:
        """Those of each label."""
        return width

    def tally(self, groups: Groups, answers: ChunkAnswers) -> LabelCounts:
        """Count labels, probabilities and hits by domain."""
        return count_label_rows(
            groups,
            probabilities=answers.decided.probabilities,
            decided=answers.decided.decided,
            scored=answers.scored,
            gold=answers.targets,
            compared=answers.compared,
            tree=answers.decided.tree,
        )

    def pack(self, tally: LabelCounts) -> dict[str, JsonValue]:
        """Columns in base64."""
        packed: dict[str, JsonValue] = LabelColumns.of(tally).model_dump(exclude_none=True)
        return packed

    def unpack(self, packed: Mapping[str, object], *, domains: int, width: int) -> LabelCounts:
        """Read what `pack` gave."""
        try:
            return LabelColumns.model_validate(packed).counts(domains, width)
        except ValidationError as error:
            raise ValueError(validation_problems(error, "tally")) from error

    def sums(self, height: int, width: int) -> LabelSums:
        """Sums of no chunks yet."""
        return LabelSums(height, width)

    def section(self, rows: RowFacts, total: LabelTotals, labels: Sequence[str]) -> LabelSection:
        """Shares, probabilities and scores of every label."""
        scored = max(rows.scored, 1)
        hits = total.hits if total.hits is not None and total.hits.rows else None
        return LabelSection(
            rows=rows.rows,
            ok=rows.ok,
            windowed=rows.windowed,
            truncated=rows.truncated,
            empty=rows.empty,
            quarantined=rows.quarantined,
            unlabelled_share=int(total.labels_a_row[0]) / scored,
            tokens_mean=rows.tokens / scored,
            token_histogram=tuple(rows.token_histogram.tolist()),
            labels_a_row=tuple(total.labels_a_row.tolist()),
            labels=label_reports(total, hits, scored, labels),
            gold=None if hits is None else rounded_scores(hits.scores()),
        )

    def report(
        self, decision: Mapping[str, JsonValue], common: Mapping[str, Any]
    ) -> LabelTaskReport:
        """The report, with the threshold of each label, and the parents of fine labels."""
        own = MultilabelDecision.model_validate(decision)
        parents = {short_name(fine): short_name(coarse) for fine, coarse in own.parents.items()}
        return LabelTaskReport.model_validate(
            {
                **common,
                "thresholds": own.thresholds,
                "parents": parents,
                "fewest_labels": own.fewest_labels,
                "most_labels": own.most_labels,
            }
        )
