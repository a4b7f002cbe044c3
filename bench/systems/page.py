"""`docs/benchmarks/systems.md`: each system with its numbers beside the published ones."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path

from bench.systems.registry import SYSTEMS, AnySystem
from bench.systems.results import Results, Row
from bench.systems.system import System
from schemas.markdown import Markdown, markdown_table

FACET_METRICS = ("micro_f1", "macro_f1", "exact_match")
FACET_METRIC = re.compile(
    rf"(?P<metric>{'|'.join(FACET_METRICS)})_(?P<facet>.+?)(?P<fixed>_at_0\.25)?"
)

INTRO = """# Systems on real data

Each of them is a config in [configs/](../../configs), trained, exported and scored by the three
commands. `make systems` lists them; `make system-NAME` runs one, for example `make
system-sentiment-500`, and leaves its artefact, trained on all rows that it may use, in
`artifacts/systems/NAME/bundle`. `DATA` names the folder of the public sets. A run that was stopped
resumes there. Results: [bench/results/systems.json](../../bench/results/systems.json).

All use the default encoder of 22 million parameters and the default recipe unless their config says
otherwise. Scores are means over runs; intervals are of 95 %, for other runs and other test rows.
Minutes are of one training on two cores. Where there are fewer runs than the line above a table
names, the others are yet to be measured; `make system-NAME` measures them.
"""


def write_page(results: Results, page: Path) -> None:
    """Write the page."""
    measured = [system for system in SYSTEMS if _rows_of(system, results)]
    missing = [system for system in SYSTEMS if system not in measured]
    blocks = [INTRO]
    for (title, _), variants in groupby(measured, _section_key):
        of_section = list(variants)
        if len(of_section) > 1:
            blocks.append(_section_by_facet(title, of_section, results))
        else:
            blocks.append(_section(of_section[0], results, page.parent))
    if missing:
        lines = [f"- `{system.name}`: {system.title}; {system.how}" for system in missing]
        blocks.append("\n".join(["## Not measured yet\n", *lines, ""]))
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text("\n".join(blocks), encoding="utf-8")


def _section_key(system: AnySystem) -> tuple[str, str]:
    """Systems with the same key share a section: those that are measured by the same facet."""
    title, trained, _ = system.title.partition(", trained on ")
    return (title, "") if trained else (system.title, system.name)


def _section_by_facet(title: str, systems: Sequence[AnySystem], results: Results) -> str:
    """One table of what is trained on and what is tested on, with the mean of each metric."""
    cells: dict[tuple[str, ...], dict[str, Row]] = {}
    for system in systems:
        for row in _rows_of(system, results):
            match = FACET_METRIC.fullmatch(row.metric)
            assert match is not None, row.metric
            _, variant, task = row.data.split(", ")
            threshold = "0.25" if match["fixed"] else "tuned"
            by_metric = cells.setdefault((task, variant, match["facet"], threshold), {})
            by_metric[match["metric"]] = row
    lines = [
        f"## {title}\n",
        f"{systems[0].how.partition(', trained on')[0]}; all rows are tested.\n",
    ]
    header = ["task", "trained on", "tested on", "thresholds", *FACET_METRICS, "runs", "minutes"]
    rows = [
        [*place, *(_value(by_metric[metric]) for metric in FACET_METRICS), *_cost(by_metric)]
        for place, by_metric in sorted(cells.items())
    ]
    lines.append(markdown_table(header, rows))
    published = [
        f"- {task}, trained on {variant}, tested on {facet}, thresholds {threshold}: "
        f"{metric.replace('_', ' ')} {row.document} is published\n"
        for (task, variant, facet, threshold), by_metric in sorted(cells.items())
        for metric, row in by_metric.items()
        if row.document
    ]
    return "\n".join([*lines, *published])


def _value(row: Row) -> str:
    return f"{row.value:.3f} ({row.low:.2f} to {row.high:.2f})"


def _cost(by_metric: Mapping[str, Row]) -> list[str]:
    row = next(iter(by_metric.values()))
    return [str(row.runs), f"{row.minutes:.1f}"]


def _section(system: AnySystem, results: Results, pages: Path) -> str:
    lines = [f"## {system.title}\n", f"{system.how}.\n"]
    lines += [f"`{result.name}`: {result.note}\n" for result in system.results if result.note]
    header = ["result", "metric", "mean", "95 % interval", "runs", "minutes", "published"]
    lines.append(markdown_table(header, [_cells(row) for row in _rows_of(system, results)]))
    if isinstance(system, System) and system.pictured and (pages / system.picture).exists():
        lines.append(f"![Map and similarities of 500 tested texts]({system.picture})\n")
    lines += [f"- {line}\n" for result in system.results for line in result.tried]
    return "\n".join(lines)


def _rows_of(system: AnySystem, results: Results) -> list[Row]:
    places = (
        {(result.name, system.data_of(result)) for result in system.results}
        if isinstance(system, System)
        else {(row.system, row.data) for row in results.rows if row.system == system.name}
    )
    return [row for row in results.rows if (row.system, row.data) in places]


def _cells(row: Row) -> list[str]:
    return [
        f"{row.system}, {row.data}",
        Markdown(f"`{row.metric}`"),
        f"{row.value:.3g}",
        f"{row.low:.3f} to {row.high:.3f}",
        str(row.runs),
        f"{row.minutes:.1f}",
        row.document or "–",
    ]
