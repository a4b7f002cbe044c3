"""Systems on real data: train, export and score each of them, and keep its numbers.

Every finished run is kept in the results file, so that the same command resumes where an earlier
one ended. Writes bench/results/systems.json and docs/benchmarks/systems.md.
"""

from __future__ import annotations

import logging
from pathlib import Path

import click

from bench.paths import PAGES, RESULTS, ROOT
from bench.systems.page import write_page
from bench.systems.registry import BY_RESULT, REMARKS, SYSTEMS, AnySystem
from bench.systems.results import Results

log = logging.getLogger("bench.systems")


@click.group(help=__doc__)
def main() -> None:
    """Systems on real data."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")


@main.command("list")
def list_command() -> None:
    """List the systems with their configs."""
    for system in SYSTEMS:
        for name in system.result_names:
            click.echo(f"{name:18} {system.title}")


@main.command("run")
@click.argument("name", type=click.Choice(list(BY_RESULT)))
@click.argument("data", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--runs", type=click.IntRange(0), help="Measure the first ones only.")
@click.option(
    "--keep/--no-keep",
    default=True,
    show_default=True,
    help="Train on all rows in the end, and keep that artefact.",
)
@click.option("--again", is_flag=True, help="Measure runs again that are in the results.")
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change the config, for a trial; use another --results with it.",
)
@click.option("--work", type=click.Path(path_type=Path), default=ROOT / "artifacts" / "systems")
@click.option("--results", type=click.Path(path_type=Path), default=RESULTS / "systems.json")
@click.option("--page", type=click.Path(path_type=Path), default=PAGES / "systems.md")
def run_command(
    name: str,
    data: Path,
    runs: int | None,
    keep: bool,
    again: bool,
    settings: tuple[str, ...],
    work: Path,
    results: Path,
    page: Path,
) -> None:
    """Measure a system on the public sets in DATA, and keep its artefact."""
    for system in BY_RESULT[name]:
        _run(
            system,
            data,
            runs,
            work / system.name,
            results,
            settings,
            page.parent,
            keep=keep,
            again=again,
        )
    write_page(Results.read(results), page)
    click.echo(f"{results}, {page}")


def _run(
    system: AnySystem,
    data: Path,
    runs: int | None,
    folder: Path,
    results: Path,
    settings: tuple[str, ...],
    pages: Path,
    *,
    keep: bool,
    again: bool,
) -> None:
    measured = Results.read(results)
    for number in range(min(system.runs, system.runs if runs is None else runs)):
        if measured.has(system.result_names[0], system.first_data, number) and not again:
            continue
        log.info("%s: run %d of %d", system.name, number + 1, system.runs)
        added = system.measure(data, number, folder / f"run-{number}", settings, pages)
        measured = measured.with_runs(added, REMARKS)
        measured.write(results)
        for one in added:
            shown = ", ".join(f"{metric} {value:.3g}" for metric, value in one.scores.items())
            log.info("%s, %s: %s in %.1f minutes", one.system, one.data, shown, one.minutes)
    if keep:
        bundle = system.keep(data, folder, settings)
        if bundle is not None:
            log.info("%s: %s", system.name, bundle)


if __name__ == "__main__":
    main()
