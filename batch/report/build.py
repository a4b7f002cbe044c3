"""The report of a run: the numbers, and in plain sentences what is unusual about them.

It is made from the merged statistics alone and holds no time, path or machine, so that a resumed
run writes the same bytes as an uninterrupted one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict

from batch.report.counting import PROBABILITY_UNIT, TOKEN_EDGES
from batch.report.domains import NO_DOMAIN, short_name
from batch.report.totals import DomainStats, OtherDomains, TaskStats
from schemas.decision.metrics import Hits, Scores
from schemas.printable import printable

FEW_ROWS = 30
"""Below this many scored rows a page says that shares are rough."""

REMARKABLE_SHARE = 0.15
"""A domain with a greater share of rows cut, empty or quarantined gets a notice of its own."""

DIGITS = 6


def _rounded(number: float) -> float:
    return round(number, DIGITS)


Number = Annotated[float, AfterValidator(_rounded)]


class LabelReport(BaseModel):
    """One label in one domain."""

    model_config = ConfigDict(frozen=True, extra="forbid")

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


class SectionReport(BaseModel):
    """One domain, or the whole corpus. Scored rows are those that are ok or truncated."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rows: int
    ok: int
    truncated: int
    empty: int
    quarantined: int
    unlabelled_share: Number
    """Share of the scored rows without any label."""
    tokens_mean: Number
    """Tokens of a scored row."""
    token_histogram: tuple[int, ...]
    """Scored rows by tokens: at most each of the report's `token_edges`, then longer."""
    labels_a_row: tuple[int, ...]
    """Scored rows with 0, 1, 2, 3, 4, and 5 or more labels."""
    labels: tuple[LabelReport, ...]
    """In label order."""
    gold: Scores | None
    """Null where no row has gold labels."""

    @property
    def scored(self) -> int:
        """Rows that the model has read."""
        return self.ok + self.truncated


class OthersReport(SectionReport):
    """Domains that are not described one by one, counted together."""

    domains: int
    """How many there are."""
    domains_exact: bool
    """False if `domains` is an estimate, good to about one in a hundred."""


class Report(BaseModel):
    """What `report.json` holds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    task: str
    labels: tuple[str, ...]
    thresholds: tuple[Number, ...]
    gold_column: str | None
    token_edges: tuple[int, ...] = TOKEN_EDGES
    notes: tuple[str, ...]
    """What a reader should know before the numbers, in sentences."""
    overall: SectionReport
    domains: dict[str, SectionReport]
    """The largest, sorted by name; rows without a domain under "(none)". A name of more than 200
    characters is cut and ends in a hash of the whole."""
    others: OthersReport | None = None
    """All other domains together; null if there are none. `overall` includes them."""

    @property
    def number_of_domains(self) -> int:
        """How many domains there are, those counted together too."""
        return len(self.domains) + (0 if self.others is None else self.others.domains)


class JointReport(BaseModel):
    """What `report.json` holds of a run over several tasks: the report of each."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    tasks: dict[str, Report]


def build_report(
    stats: TaskStats,
    *,
    task: str,
    labels: Sequence[str],
    thresholds: Sequence[float],
    gold_column: str | None,
) -> Report:
    """Make the report from the statistics of all chunks.

    labels, thresholds: as the bundle has them, in label order.
    gold_column: column that the gold labels came from, None if the run had none.
    """
    shown = [short_name(label) for label in labels]
    overall = _section(stats.total, shown)
    domains = {name: _section(stats.domains[name], shown) for name in sorted(stats.domains)}
    others = None if stats.others is None else _others(stats.others, shown)
    return Report(
        task=task,
        labels=tuple(shown),
        thresholds=tuple(float(threshold) for threshold in thresholds),
        gold_column=gold_column,
        notes=tuple(_notes(overall, domains, others, gold_column)),
        overall=overall,
        domains=domains,
        others=others,
    )


def notices(section: SectionReport, *, remarkable: bool = False) -> list[str]:
    """What is unusual in a section and what to do about it, in plain sentences.

    remarkable: leave out what concerns so few rows that it need not be said for every domain.
    """
    few = REMARKABLE_SHARE * section.rows if remarkable else 0
    found = []
    if section.quarantined > few:
        found.append(
            f"{_articles(section.quarantined, section.rows)} could not be scored and "
            f"{_be(section.quarantined)} set aside, without labels and outside the shares. The "
            "files in quarantine/ name each one with the reason; correct them in the source and "
            "score it again."
        )
    if section.truncated > few:
        found.append(
            f"{_articles(section.truncated, section.rows)} {_be(section.truncated)} longer than "
            "the model reads, so only a part was scored (the beginning, or what surrounds a marked "
            "entity). Labels that depend on the rest may be missing; the predictions mark these "
            "rows with status “truncated”."
        )
    if section.empty > few:
        found.append(
            f"{_articles(section.empty, section.rows)} {_have(section.empty)} no text and "
            "therefore no labels. If you expected text there, check which column it is read from."
        )
    if 0 < section.scored < FEW_ROWS:
        found.append(
            f"Only {_articles(section.scored)} {_be(section.scored)} scored here: read the shares "
            "as a rough indication."
        )
    return found


def _notes(
    overall: SectionReport,
    domains: dict[str, SectionReport],
    others: OthersReport | None,
    gold_column: str | None,
) -> list[str]:
    notes = notices(overall) if overall.rows else ["The corpus has no articles."]
    if others is not None:
        named = len(domains)
        roughly = "" if others.domains_exact else "about "
        notes.append(
            f"Only the largest domains, {named:,} of {roughly}{named + others.domains:,}, are "
            f"described one by one. The others have {_articles(others.rows, overall.rows)} and are "
            "counted together; the totals include them."
        )
    if NO_DOMAIN in domains:
        nowhere = domains[NO_DOMAIN].rows
        notes.append(
            f"{_articles(nowhere, overall.rows)} {_have(nowhere)} no domain and "
            f"{_be(nowhere)} counted under “{NO_DOMAIN}”."
        )
    gold_column = None if gold_column is None else short_name(printable(gold_column))
    if overall.gold is not None and overall.gold.rows < overall.rows:
        notes.append(
            f"{_articles(overall.gold.rows, overall.rows)} {_have(overall.gold.rows)} gold labels "
            f"in column “{gold_column}”; precision, recall and F1 are computed on those alone."
        )
    elif gold_column is not None and overall.gold is None and overall.rows:
        notes.append(f"No article has gold labels in column “{gold_column}”.")
    return notes


def _others(others: OtherDomains, labels: Sequence[str]) -> OthersReport:
    return OthersReport(
        **_section(others.stats, labels).model_dump(),
        domains=others.domains,
        domains_exact=others.is_exact,
    )


def _section(stats: DomainStats, labels: Sequence[str]) -> SectionReport:
    scored = max(stats.scored, 1)
    hits = stats.hits if stats.hits is not None and stats.hits.rows else None
    return SectionReport(
        rows=stats.rows,
        ok=stats.ok,
        truncated=stats.truncated,
        empty=stats.empty,
        quarantined=stats.quarantined,
        unlabelled_share=int(stats.labels_a_row[0]) / scored,
        tokens_mean=stats.tokens / scored,
        token_histogram=tuple(stats.token_histogram.tolist()),
        labels_a_row=tuple(stats.labels_a_row.tolist()),
        labels=tuple(
            _label(stats, hits, index=index, label=label) for index, label in enumerate(labels)
        ),
        gold=None if hits is None else _rounded_scores(hits.scores()),
    )


def _label(stats: DomainStats, hits: Hits | None, *, index: int, label: str) -> LabelReport:
    scored = max(stats.scored, 1)
    right = missed = wrong = 0
    if hits is not None:
        right = int(hits.true_positives[index])
        missed = int(hits.false_negatives[index])
        wrong = int(hits.false_positives[index])
    return LabelReport(
        label=label,
        rows=int(stats.label_counts[index]),
        share=int(stats.label_counts[index]) / scored,
        mean_probability=int(stats.probability_sum[index]) / PROBABILITY_UNIT / scored,
        probability_histogram=tuple(stats.probability_histogram[index].tolist()),
        gold_rows=None if hits is None else right + missed,
        precision=_ratio(right, right + wrong),
        recall=_ratio(right, right + missed),
        f1=_ratio(2 * right, 2 * right + missed + wrong),
    )


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _rounded_scores(scores: Scores) -> Scores:
    return Scores.model_validate(
        {
            name: _rounded(number) if isinstance(number, float) else number
            for name, number in scores.model_dump().items()
        }
    )


def percent(share: float) -> str:
    """A share as people write it; what is not quite nothing or everything says so."""
    if 0 < share < 0.001:
        return "<0.1%"
    if 0.9995 <= share < 1:
        return ">99.9%"
    return f"{share:.1%}"


def _articles(count: int, whole: int | None = None) -> str:
    share = f" ({percent(count / whole)})" if whole else ""
    return f"{count:,} article{'' if count == 1 else 's'}{share}"


def _be(count: int) -> str:
    return "is" if count == 1 else "are"


def _have(count: int) -> str:
    return "has" if count == 1 else "have"
