"""Writing a report: `report.json` for programs, `report.html` for the people who read the news."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from math import log1p, sqrt
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from batch.kinds.sections import JointReport, Report, SectionReport
from batch.report.build import notices, percent
from schemas.io.files import write_atomic

DETAILED_DOMAINS = 60
"""The page gives this many domains, the largest, a section of their own; the tables have all."""

DETAILED_CELLS = 6_000
"""Domains times labels that have a section of their own; with many labels there are fewer."""

MOST_LABELS = 300
"""Rows of a table of labels, the most frequent; report.json has all."""

HEAT_DOMAINS = 40
"""Columns of the heat table: the largest domains."""

HEAT_STEPS = 20
"""Shades of the heat table, the classes h1 to h20 of the style sheet; text stays readable on the
strongest in both color schemes."""

BARS_HEIGHT = 22

TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class _View:
    """What the page needs of one task.

    domains: the largest first. notes: those that do not concern all tasks alike.
    prefix: of the anchors; empty if the page has one task.
    """

    report: Report
    domains: Sequence[tuple[str, SectionReport]]
    notes: Sequence[str]
    prefix: str

    @property
    def detailed(self) -> int:
        """Domains that have a section of their own."""
        labels = max(len(self.report.labels), 1)
        return min(DETAILED_DOMAINS, max(1, DETAILED_CELLS // labels))

    @property
    def counts_all(self) -> bool:
        """True if the number of domains is exact."""
        return self.report.others is None or self.report.others.domains_exact

    @property
    def others_name(self) -> str:
        """What the domains are called that are counted together."""
        others = self.report.others
        number = 0 if others is None else others.domains
        return f"{'' if self.counts_all else 'about '}{number:,} other domain{'s' * (number != 1)}"

    @property
    def heat_domains(self) -> Sequence[tuple[str, SectionReport]]:
        return self.domains[:HEAT_DOMAINS]


def write_report(report: Report | JointReport, folder: Path) -> None:
    """Write report.json and report.html into `folder`, which exists."""
    write_atomic(folder / "report.json", report.model_dump_json(indent=1) + "\n")
    write_atomic(folder / "report.html", render_html(report))


def render_html(report: Report | JointReport) -> str:
    """The report as one HTML page that needs nothing else: no script, no network."""
    reports = list(report.tasks.values()) if isinstance(report, JointReport) else [report]
    alone = len(reports) == 1
    common = [] if alone else [note for note in reports[0].notes if _is_common(note, reports)]
    views = [
        _View(
            report=one,
            domains=sorted(one.domains.items(), key=lambda item: (-item[1].rows, item[0])),
            notes=[note for note in one.notes if note not in common],
            prefix="" if alone else f"{one.task}-",
        )
        for one in reports
    ]
    style = (TEMPLATES / "style.css.j2").read_text(encoding="utf-8")
    return _page().render(
        views=views,
        alone=alone,
        tasks=[one.task for one in reports],
        legends=list(dict.fromkeys(one.legend for one in reports)),
        notes=common,
        gold_columns=_gold_columns(reports),
        most_labels=MOST_LABELS,
        style=Markup(style),  # ours, and its hash is in the policy
        policy=_policy(style),
        token_captions=_token_captions(reports[0].token_edges),
    )


def _policy(style: str) -> str:
    """Content security policy that allows one style sheet, and nothing else that can be loaded."""
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"


def _is_common(note: str, reports: Sequence[Report]) -> bool:
    return all(note in report.notes for report in reports)


def _gold_columns(reports: Sequence[Report]) -> str:
    """Where the gold labels are, in words; empty if no article has any."""
    compared = [report for report in reports if report.overall.compared is not None]
    named = [
        f"“{report.gold_column}”" + (f" ({report.task})" if len(reports) > 1 else "")
        for report in compared
    ]
    if not named:
        return ""
    return (
        f"the column {named[0]}, which is"
        if len(named) == 1
        else f"the columns {', '.join(named)}, which are"
    )


@cache
def _page() -> Template:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "count": lambda number: f"{number:,}",
        "percent": percent,
        "score": lambda score: "\N{EN DASH}" if score is None else f"{score:.2f}",
        "bars": _bars,
    }
    environment.globals |= {"notices": notices, "heat": _heat}
    return environment.get_template("report.html.j2")


def _heat(share: float, scale: float) -> int:
    """Shade of a heat cell; by the square root, so that rare labels differ visibly."""
    return round(HEAT_STEPS * sqrt(share / scale)) if scale else 0


def _bars(histogram: Sequence[int], threshold: float, *, above: bool) -> str:
    """SVG path of the bars above the threshold, or below it, in a box of 100 by BARS_HEIGHT.

    Heights are logarithmic: most articles are at the left end for most labels.
    """
    highest = log1p(max(histogram, default=0)) or 1.0
    width = 100 / max(len(histogram), 1)
    path = []
    for index, count in enumerate(histogram):
        if count and ((index + 0.5) * width / 100 >= threshold) == above:
            height = max(BARS_HEIGHT * log1p(count) / highest, 1.5)
            path.append(
                f"M{index * width:g} {BARS_HEIGHT}v-{height:.1f}h{width - 1:g}v{height:.1f}z"
            )
    return "".join(path)


def _token_captions(edges: Sequence[int]) -> list[str]:
    starts = [0, *edges[:-1]]
    ranges = [f"{start + 1}\N{EN DASH}{edge}" for start, edge in zip(starts, edges, strict=True)]
    return [*ranges, f">{edges[-1]}"]
