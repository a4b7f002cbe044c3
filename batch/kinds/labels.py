"""Parts of the report that kinds with labels share: a table of labels, by domain and by label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol, TypeVar

from pydantic import BaseModel

from batch.counting.label_sums import LabelTotals
from batch.counting.labels import PROBABILITY_UNIT
from batch.kinds.sections import Number, RowCounts, rounded
from schemas.decision.metrics import Hits, Scores

ScoresT = TypeVar("ScoresT", bound=Scores)


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


class NestedLabel(NamedTuple):
    """A label where fine labels stand below their coarse one.

    is_coarse: True if its fine labels may follow. is_fine: True if it has a coarse label.
    coarse: name of that if it is not in the same table, otherwise empty.
    """

    label: LabelReport
    is_coarse: bool = False
    is_fine: bool = False
    coarse: str = ""


class UnlabelledShare(RowCounts):
    """Rows to which no label applies."""

    unlabelled_share: Number
    """Share of the scored rows without any label."""


class _HasLabels(Protocol):
    @property
    def labels(self) -> tuple[LabelReport, ...]: ...


class _HasDomains(Protocol):
    @property
    def labels(self) -> tuple[str, ...]: ...
    @property
    def domains(self) -> Mapping[str, _HasLabels]: ...


class LabelTable:
    """Labels of a section, for the page; `labels` is a field of the section."""

    @property
    def seen(self: _HasLabels) -> list[LabelReport]:
        """Labels that were given, or that gold has, the most frequent first."""
        seen = [label for label in self.labels if label.rows or label.gold_rows]
        return sorted(seen, key=lambda label: -label.rows)

    @property
    def unseen(self: _HasLabels) -> list[LabelReport]:
        """The other labels, in label order."""
        return [label for label in self.labels if not (label.rows or label.gold_rows)]


class LabelHeat:
    """Labels of a report by domain, for the page; `labels` and `domains` are its fields."""

    @property
    def parts(self) -> Mapping[str, str]:
        """Titles of the tables, by anchor."""
        return {
            "overview": "Domains compared",
            "heat": "Labels by domain",
            "all": "All domains together",
        }

    def nested(self, labels: Sequence[LabelReport]) -> list[NestedLabel]:
        """Labels of a table as they stand there."""
        return [NestedLabel(label) for label in labels]

    @property
    def position_of(self: _HasDomains) -> Mapping[str, int]:
        """Place in label order by label."""
        return {label: position for position, label in enumerate(self.labels)}

    @property
    def highest_share(self: _HasDomains) -> float:
        """Highest share of a label in a domain."""
        labels = [label for section in self.domains.values() for label in section.labels]
        return max((label.share for label in labels), default=0.0)


def nested_labels(labels: Sequence[LabelReport], parents: Mapping[str, str]) -> list[NestedLabel]:
    """Fine labels below their coarse one; otherwise the order stays.

    parents: coarse label by fine label.
    """
    families: dict[str, list[LabelReport]] = {}
    for label in labels:
        families.setdefault(parents.get(label.label, label.label), []).append(label)
    coarse, nested = frozenset(parents.values()), []
    for name, family in families.items():
        family.sort(key=lambda label: label.label != name)
        missing = "" if family[0].label == name else name
        nested += [
            NestedLabel(label, name in coarse, is_fine=False)
            if label.label == name
            else NestedLabel(label, is_fine=True, coarse=missing)
            for label in family
        ]
    return nested


def label_reports(
    total: LabelTotals, hits: Hits | None, scored: int, labels: Sequence[str]
) -> tuple[LabelReport, ...]:
    """One report a label. scored: rows that the model has read, at least 1."""
    return tuple(
        _label(total, hits, scored, index=index, label=label) for index, label in enumerate(labels)
    )


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


def rounded_scores(scores: ScoresT) -> ScoresT:
    """Scores as the report has them."""
    return type(scores).model_validate(_rounded(scores.model_dump()))


def _rounded(value: object) -> object:
    """A value with its numbers rounded, those of its parts too."""
    if isinstance(value, dict):
        return {name: _rounded(part) for name, part in value.items()}
    return rounded(value) if isinstance(value, float) else value
