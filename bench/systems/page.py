"""`docs/benchmarks/systems.md`: each system with its numbers beside the published ones."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from bench.systems.registry import SYSTEMS, AnySystem, FrozenSystem, Result
from bench.systems.results import Results, Row
from schemas.markdown import Markdown, markdown_table

INTRO = """# Systems on real data

Each of them is a config in [configs/](../../configs), trained, exported and scored by the three
commands. `make systems` lists them; `make system-NAME` runs one, for example `make
system-sentiment-500`, and leaves its artefact, trained on all rows that it may use, in
`artifacts/systems/NAME/bundle`. `DATA` names the folder of the public sets. A run that was stopped
goes on where it was. Results: [bench/results/systems.json](../../bench/results/systems.json).

All use the default encoder of 22 million parameters and the default recipe unless their config says
otherwise. Scores are means over runs; intervals are of 95 %, for other runs and other test rows.
Minutes are of one training on two cores.
"""


def write_page(results: Results, page: Path) -> None:
    """Write the page."""
    blocks = [INTRO, *(_section(system, results) for system in SYSTEMS)]
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text("\n".join(blocks), encoding="utf-8")


def _section(system: AnySystem, results: Results) -> str:
    lines = [
        f"## {system.title}\n",
        f"{system.how}.\n",
    ]
    rows = [(result, _rows_of(system, result, results)) for result in system.results]
    lines += [f"`{result.name}`: {result.note}" for result, _ in rows if result.note]
    if any(of_result for _, of_result in rows):
        header = ["result", "metric", "mean", "95 % interval", "runs", "minutes", "published"]
        lines.append(
            "\n" + markdown_table(header, [cells for pair in rows for cells in _cells(*pair)])
        )
    else:
        lines.append("\nNot measured yet.\n")
    lines += [f"- {line}\n" for result, _ in rows for line in result.tried]
    return "\n".join(lines)


def _rows_of(system: AnySystem, result: Result, results: Results) -> list[Row]:
    of_data = [*system.sets] if isinstance(system, FrozenSystem) else [system.data]
    return [row for row in results.rows if row.system == result.name and row.data in of_data]


def _cells(result: Result, rows: list[Row]) -> Iterator[list[str]]:
    for row in rows:
        yield [
            f"{result.name}, {row.data}",
            Markdown(f"`{row.metric}`"),
            f"{row.value:.3f}",
            f"{row.low:.3f} to {row.high:.3f}",
            str(row.runs),
            f"{row.minutes:.1f}",
            row.document or "–",
        ]
