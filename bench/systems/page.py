"""`docs/benchmarks/systems.md`: each system with its numbers beside the published ones."""

from __future__ import annotations

from pathlib import Path

from bench.systems.registry import SYSTEMS, AnySystem
from bench.systems.results import Results, Row
from bench.systems.system import System
from schemas.markdown import Markdown, markdown_table

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
    blocks = [INTRO, *(_section(system, results, page.parent) for system in measured)]
    if missing:
        lines = [f"- `{system.name}`: {system.title}; {system.how}" for system in missing]
        blocks.append("\n".join(["## Not measured yet\n", *lines, ""]))
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text("\n".join(blocks), encoding="utf-8")


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
