"""Learning curves at 50 to all labelled rows, of the default recipe and of its rivals.

Every finished draw is kept in the results file, so that the same command resumes where an earlier
one ended. Writes bench/results/few.json and docs/benchmarks/few.md.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import click

from bench.few.methods import METHODS, SPAN_METHODS
from bench.few.page import write_page
from bench.few.results import Draw, MethodName, Results
from bench.few.scoring import score_answers
from bench.few.sets import SETS, LabelledSet, load_set
from bench.paths import PAGES, RESULTS
from schemas.cli.types import Duration

log = logging.getLogger("bench.few")


@click.command(help=__doc__)
@click.argument("data", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--set", "sets", multiple=True, type=click.Choice(list(SETS)), help="All, if none.")
@click.option("--method", "methods", multiple=True, type=click.Choice(list(METHODS)))
@click.option("--most-rows", type=click.IntRange(1), help="Leave out larger draws.")
@click.option("--again", is_flag=True, help="Forget the draws of these sets and methods first.")
@click.option(
    "--budget",
    type=Duration(),
    default="24h",
    show_default=True,
    help="Start no draw after this time, as in 90m.",
)
@click.option("--work", type=click.Path(path_type=Path), default=Path("artifacts/few"))
@click.option("--results", type=click.Path(path_type=Path), default=RESULTS / "few.json")
@click.option("--page", type=click.Path(path_type=Path), default=PAGES / "few.md")
def main(
    data: Path,
    sets: tuple[str, ...],
    methods: tuple[MethodName, ...],
    most_rows: int | None,
    again: bool,
    budget: float,
    work: Path,
    results: Path,
    page: Path,
) -> None:
    """Measure what is missing, and write the page."""
    logging.basicConfig(level=logging.ERROR, format="%(message)s")
    log.setLevel(logging.INFO)
    deadline = time.monotonic() + budget
    names, chosen = sets or tuple(SETS), methods or tuple(METHODS)
    measured = Results.read(results)
    if again:
        measured = measured.without(set(chosen), set(names))
    done = {draw.key for draw in measured.draws}
    loaded = [load_set(name, data) for name in names]
    missing = [
        (one, rows, method, number)
        for one, rows, method, number in _planned(loaded, chosen)
        if (one.name, rows, method, number) not in done and rows <= (most_rows or rows)
    ]
    for place, (one, rows, method, number) in enumerate(missing, start=1):
        if time.monotonic() > deadline:
            log.info("the budget is used up, %d draws are missing", len(missing) - place + 1)
            break
        draw = measure(one, rows, method, number, work)
        measured = measured.with_draw(draw)
        measured.write(results)
        shown = ", ".join(f"{metric} {score:.3f}" for metric, score in draw.scores.items())
        log.info(
            "%d of %d: %s, %d rows, %s, draw %d: %s in %.0f s",
            place, len(missing), one.name, rows, method, number, shown, draw.seconds,
        )  # fmt: skip
    write_page(measured, page)
    click.echo(f"{results}: {len(measured.draws)} draws; {page}")


def measure(one: LabelledSet, rows: int, method: MethodName, number: int, work: Path) -> Draw:
    """Train a method on a draw, and score its answers."""
    folder = work / f"{one.name}-{rows}-{method}-{number}"
    answers, seconds = METHODS[method](one, one.draw(rows, number), folder)
    scores, deviations = score_answers(one, answers)
    shutil.rmtree(folder, ignore_errors=True)
    return Draw(
        data=one.name,
        rows=rows,
        method=method,
        draw=number,
        scores=scores,
        deviations=deviations,
        seconds=round(seconds, 1),
    )


def _planned(
    sets: list[LabelledSet], methods: tuple[MethodName, ...]
) -> Iterator[tuple[LabelledSet, int, MethodName, int]]:
    """First draws before second ones, and fewer rows before more."""
    sizes = sorted({rows for one in sets for rows in one.sizes})
    numbers = range(max(one.draws(rows) for one in sets for rows in one.sizes))
    for number, rows, one, method in product(numbers, sizes, sets, methods):
        is_planned = rows in one.sizes and number < one.draws(rows)
        if is_planned and (one.kind != "token" or method in SPAN_METHODS):
            yield one, rows, method, number


if __name__ == "__main__":
    main()
