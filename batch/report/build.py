"""The report of a run: the numbers, and in plain sentences what is unusual about them.

It is made from the merged statistics alone and contains no time, path or machine, so that a resumed
run writes the same bytes as an uninterrupted one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Self

from pydantic import BaseModel, ConfigDict, JsonValue, model_validator

from batch.counting.domains import NO_DOMAIN
from batch.kinds import BATCH_KINDS
from batch.kinds.sections import OthersReport, Report, RowCounts, SectionReport
from batch.report.totals import DomainStats, OtherDomains, TaskStats
from schemas.kinds import KINDS, TaskKind
from schemas.printable import printable
from schemas.text.short_names import short_name

FEW_ROWS = 30
"""Below this many scored rows a page says that shares are rough."""

REMARKABLE_SHARE = 0.15
"""A domain with a greater share of rows cut, empty or quarantined gets a notice of its own."""


class TaskFacts(BaseModel):
    """What the report says of a task beside what was counted.

    decision: as the task's metadata has it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: str
    kind: TaskKind
    labels: tuple[str, ...]
    decision: dict[str, JsonValue]
    gold_column: str | None

    @model_validator(mode="after")
    def _decision_is_of_the_kind(self) -> Self:
        """A damaged record is refused here, and not when the report is made."""
        kind = KINDS[self.kind]
        kind.check(self.labels, kind.Decision.model_validate(self.decision))
        return self


def build_report(stats: TaskStats, facts: TaskFacts) -> Report:
    """Make the report of a task from the statistics of all chunks."""
    labels = [short_name(label) for label in facts.labels]
    kind = BATCH_KINDS[facts.kind]
    overall = _section(stats.total, facts.kind, labels)
    domains = {
        name: _section(stats.domains[name], facts.kind, labels) for name in sorted(stats.domains)
    }
    others = None if stats.others is None else _others(stats.others, facts.kind, labels)
    return kind.report(
        facts.decision,
        {
            "task": facts.task,
            "labels": tuple(labels),
            "gold_column": facts.gold_column,
            "notes": tuple(_notes(overall, domains, others, facts.gold_column)),
            "overall": overall,
            "domains": domains,
            "others": others,
        },
    )


def notices(section: RowCounts, *, remarkable: bool = False) -> list[str]:
    """What is unusual in a section and what to do about it, in plain sentences.

    remarkable: leave out what concerns so few rows that it need not be said for every domain.
    """
    few = REMARKABLE_SHARE * section.rows if remarkable else 0
    found = []
    if section.quarantined > few:
        found.append(
            f"{_articles(section.quarantined, section.rows)} could not be scored and "
            f"{_be(section.quarantined)} set aside, without an answer and outside the shares. The "
            "files in quarantine/ name each one with the reason; correct them in the source and "
            "score it again."
        )
    if section.truncated > few:
        found.append(
            f"{_articles(section.truncated, section.rows)} {_be(section.truncated)} longer than "
            "the model reads, so only a part was scored (the beginning, or what surrounds a marked "
            "entity). What depends on the rest may be missing; the predictions mark these "
            "rows with status “truncated”."
        )
    if section.empty > few:
        found.append(
            f"{_articles(section.empty, section.rows)} {_have(section.empty)} no text and "
            "therefore no answer. If you expected text there, check which column it is read from."
        )
    if 0 < section.scored < FEW_ROWS:
        found.append(
            f"Only {_articles(section.scored)} {_be(section.scored)} scored here: read the shares "
            "as a rough indication."
        )
    return found


def _notes(
    overall: RowCounts,
    domains: Mapping[str, RowCounts],
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
    compared = overall.compared
    if compared is not None and compared < overall.rows:
        notes.append(
            f"{_articles(compared, overall.rows)} {_have(compared)} gold labels "
            f"in column “{gold_column}”; precision, recall and F1 are computed on those alone."
        )
    elif gold_column is not None and compared is None and overall.rows:
        notes.append(f"No article has gold labels in column “{gold_column}”.")
    return notes


def _section(stats: DomainStats, kind: str, labels: Sequence[str]) -> SectionReport:
    return BATCH_KINDS[kind].section(stats.rows, stats.tally, labels)


def _others(others: OtherDomains, kind: str, labels: Sequence[str]) -> OthersReport:
    return BATCH_KINDS[kind].Others(
        **_section(others.stats, kind, labels).model_dump(),
        domains=others.domains,
        domains_exact=others.is_exact,
    )


def percent(share: float) -> str:
    """A share in percent; values close to 0 or 100 are marked as such."""
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
