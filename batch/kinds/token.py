"""Token: counts of spans by label and domain, and their part of the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pydantic import BaseModel, JsonValue, ValidationError

from batch.counting.groups import Groups
from batch.counting.spans import (
    DECIDED,
    GOLD,
    RIGHT,
    SCORE_UNIT,
    SCORES,
    SPANS,
    TEXTS,
    SpanColumns,
    SpanCounts,
    SpanSums,
    SpanTotals,
    count_spans,
)
from batch.kinds.base import ChunkAnswers, RowFacts
from batch.kinds.labels import rounded_scores
from batch.kinds.sections import Number, OthersReport, Report, RowCounts, SectionReport
from schemas.decision.spans import SpanScores, number_of_labels
from schemas.validation import validation_problems


class SpanReport(BaseModel):
    """Spans of one label in one domain."""

    model_config = RowCounts.model_config

    label: str
    spans: int
    per_text: Number
    """Spans of a scored text."""
    texts: int
    """Scored texts with such a span."""
    mean_score: Number | None
    """Null without a span."""
    gold_spans: int | None = None
    """Spans in gold; this and the scores are null without gold."""
    precision: Number | None = None
    """Null too where no compared text has such a span."""
    recall: Number | None = None
    """Null too where gold has none."""
    f1: Number | None = None
    """Null too where neither has any."""


class SpanSection(SectionReport):
    """One domain, or the whole corpus."""

    spans: int
    """Spans of all labels."""
    without: int
    """Scored texts without a span."""
    labels: tuple[SpanReport, ...]
    """In label order."""
    gold: SpanScores | None
    """Null where no row has gold spans."""

    @property
    def compared(self) -> int | None:
        """Rows that are compared with gold spans."""
        return None if self.gold is None else self.gold.rows

    @property
    def seen(self) -> list[SpanReport]:
        """Labels with spans here or in gold, the most frequent first."""
        seen = [label for label in self.labels if label.spans or label.gold_spans]
        return sorted(seen, key=lambda label: -label.spans)


class SpanOthers(OthersReport, SpanSection):
    """Domains that are not described one by one, counted together."""


class SpanTaskReport(Report):
    """`report.json` of a task that finds spans."""

    template: ClassVar[str] = "spans.html.j2"
    legend: ClassVar[str] = "spans_legend.html.j2"

    overall: SpanSection
    domains: Mapping[str, SpanSection]
    others: SpanOthers | None = None

    @property
    def parts(self) -> Mapping[str, str]:
        """Titles of the tables, by anchor."""
        return {
            "overview": "Domains compared",
            "heat": "Entities by label and domain",
            "all": "All domains together",
        }

    @property
    def position_of(self) -> Mapping[str, int]:
        """Place in label order by label."""
        return {label: position for position, label in enumerate(self.labels)}

    @property
    def highest_per_text(self) -> float:
        """Most spans of a label that a text of a domain has on average."""
        labels = [label for section in self.domains.values() for label in section.labels]
        return max((label.per_text for label in labels), default=0.0)


class TokenBatchKind:
    """See `batch.kinds.base.BatchKind`."""

    Others = SpanOthers

    def cells(self, width: int) -> int:
        """Those of each label."""
        return number_of_labels(width)

    def tally(self, groups: Groups, answers: ChunkAnswers) -> SpanCounts:
        """Count spans and right ones by domain."""
        return count_spans(
            groups,
            answers.decided.rows,
            answers.decided.labels,
            answers.scored,
            answers.targets,
            answers.compared,
        )

    def pack(self, tally: SpanCounts) -> dict[str, JsonValue]:
        """Columns in base64."""
        packed: dict[str, JsonValue] = SpanColumns.of(tally).model_dump()
        return packed

    def unpack(self, packed: Mapping[str, object], *, domains: int, width: int) -> SpanCounts:
        """Read what `pack` gave."""
        try:
            return SpanColumns.model_validate(packed).counts(domains, number_of_labels(width))
        except ValidationError as error:
            raise ValueError(validation_problems(error, "tally")) from error

    def sums(self, height: int, width: int) -> SpanSums:
        """Sums of no chunks yet."""
        return SpanSums(height, number_of_labels(width))

    def section(self, rows: RowFacts, total: SpanTotals, labels: Sequence[str]) -> SpanSection:
        """Counts, mean scores and comparison with gold of each label."""
        hits = total.hits
        return SpanSection(
            rows=rows.rows,
            ok=rows.ok,
            windowed=rows.windowed,
            truncated=rows.truncated,
            empty=rows.empty,
            quarantined=rows.quarantined,
            tokens_mean=rows.tokens / max(rows.scored, 1),
            token_histogram=tuple(rows.token_histogram.tolist()),
            spans=int(total.by_label[:, SPANS].sum()),
            without=total.without,
            labels=tuple(
                _label(label, cells, rows.scored, compared=hits is not None)
                for label, cells in zip(labels, total.by_label.tolist(), strict=True)
            ),
            gold=None if hits is None else rounded_scores(hits.scores()),
        )

    def report(
        self, decision: Mapping[str, JsonValue], common: Mapping[str, Any]
    ) -> SpanTaskReport:
        """The report."""
        return SpanTaskReport.model_validate(common)


def _label(label: str, cells: Sequence[int], scored: int, *, compared: bool) -> SpanReport:
    right, decided, gold = (cells[one] for one in (RIGHT, DECIDED, GOLD))
    spans = cells[SPANS]
    return SpanReport(
        label=label,
        spans=spans,
        per_text=spans / max(scored, 1),
        texts=cells[TEXTS],
        mean_score=cells[SCORES] / SCORE_UNIT / spans if spans else None,
        gold_spans=gold if compared else None,
        precision=right / decided if compared and decided else None,
        recall=right / gold if compared and gold else None,
        f1=2 * right / (decided + gold) if compared and decided + gold else None,
    )
