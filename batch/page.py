"""Writing a report: `report.json` for programs, `report.html` for the people who read the news."""

from __future__ import annotations

from collections.abc import Sequence
from math import log1p, sqrt
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from batch.report import LabelReport, Report, SectionReport, notices, percent
from schemas.files import write_atomic

DETAILED_DOMAINS = 60
"""The page gives this many domains, the largest, a section of their own; the tables have all."""

HEAT_DOMAINS = 40
"""Columns of the heat table: the largest domains."""

HEAT_OPACITY = 0.6
"""Of the cell with the highest share; text stays readable on it in both colour schemes."""

BARS_HEIGHT = 22


def write_report(report: Report, folder: Path) -> None:
    """Write report.json and report.html into `folder`, which exists."""
    write_atomic(folder / "report.json", report.model_dump_json(indent=1) + "\n")
    write_atomic(folder / "report.html", render_html(report))


def render_html(report: Report) -> str:
    """The report as one HTML page that needs nothing else: no script, no network."""
    by_size = sorted(report.domains.items(), key=lambda item: (-item[1].rows, item[0]))
    return _page().render(
        report=report,
        domains=by_size,
        detailed=DETAILED_DOMAINS,
        heat_domains=by_size[:HEAT_DOMAINS],
        thresholds=dict(zip(report.labels, report.thresholds, strict=True)),
        positions={label: index for index, label in enumerate(report.labels)},
        token_captions=_token_captions(report.token_edges),
        scale=max((label.share for _, section in by_size for label in section.labels), default=0.0),
    )


def _page() -> Template:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
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
        "seen": _seen,
        "unseen": _unseen,
    }
    environment.globals |= {"notices": notices, "heat": _heat}
    return environment.get_template("report.html.j2")


def _seen(section: SectionReport) -> list[LabelReport]:
    """Labels that were given, or that gold has, the most frequent first."""
    seen = [label for label in section.labels if label.rows or label.gold_rows]
    return sorted(seen, key=lambda label: -label.rows)


def _unseen(section: SectionReport) -> list[LabelReport]:
    return [label for label in section.labels if not (label.rows or label.gold_rows)]


def _heat(share: float, scale: float) -> str:
    """Opacity of a heat cell; by the square root, so that rare labels can be told apart."""
    return f"{HEAT_OPACITY * sqrt(share / scale) if scale else 0.0:.2f}"


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
