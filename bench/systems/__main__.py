"""Systems on real data: train, export and score each of them, and keep its numbers.

Every finished run is kept in the results file, so that the same command resumes where an earlier
one ended. Writes bench/results/systems.json and docs/benchmarks/systems.md.
"""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import click

from bench.paths import PAGES, RESULTS, ROOT
from bench.systems.measures import scores_and_deviations
from bench.systems.page import write_page
from bench.systems.pipeline import score, train_and_export
from bench.systems.registry import BY_RESULT, SYSTEMS, System
from bench.systems.results import Results, Run

log = logging.getLogger("bench.systems")

DIGITS = 4


@click.group(help=__doc__)
def main() -> None:
    """Systems on real data."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")


@main.command("list")
def list_command() -> None:
    """List the systems with their configs."""
    for system in SYSTEMS:
        for result in system.results:
            click.echo(f"{result.name:16} {system.title} (configs/{system.config})")


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
    system, measured = BY_RESULT[name], Results.read(results)
    folder = work / system.name
    for number in range(system.protocol.runs if runs is None else runs):
        if measured.has(system.name, number) and not again:
            continue
        log.info("%s: run %d of %d", system.name, number + 1, system.protocol.runs)
        added = measure(system, data, number, folder / f"run-{number}", settings)
        measured = measured.with_runs(
            added,
            {result.name: result.claims for one in SYSTEMS for result in one.results},
            {result.name: result.tried for one in SYSTEMS for result in one.results},
        )
        measured.write(results)
        for one in added:
            shown = ", ".join(f"{metric} {value:.3f}" for metric, value in one.scores.items())
            log.info("%s: %s in %.1f minutes", one.system, shown, one.minutes)
    if keep:
        everything = system.protocol.everything(system.read(data))
        train_and_export(system.config_path, everything, folder, [*system.settings, *settings])
        log.info("%s: %s", system.name, folder / "bundle")
    write_page(measured, page)
    click.echo(f"{results}, {page}")


def measure(
    system: System, data: Path, number: int, folder: Path, settings: tuple[str, ...]
) -> list[Run]:
    """Train and score one run. Returns it for each result of the system."""
    part = system.protocol.part(system.read(data), number)
    changes = [f"seed={number}", *system.settings, *settings]
    bundle, minutes = train_and_export(system.config_path, part.train, folder, changes)
    predictions = score(bundle, part.tested, folder)
    runs = []
    for result in system.results:
        rows = predictions[result.task]
        scores, deviations = scores_and_deviations(result.counter(rows), len(rows))
        runs.append(
            Run(
                system=result.name,
                data=system.config.removesuffix(".toml"),
                run=number,
                scores={name: round(value, DIGITS) for name, value in scores.items()},
                deviations={name: round(value, DIGITS) for name, value in deviations.items()},
                same_tests=system.protocol.same_tests,
                tested=len(rows),
                minutes=round(minutes, 2),
            )
        )
    shutil.rmtree(folder)
    return runs


if __name__ == "__main__":
    main()
