"""Feed thousands of broken inputs to `batch-classify`: no traceback, no hang, no partial file.

Seed and number determine what a case changes; --only repeats one over the inputs of the last run,
whose keys and times differ from run to run. Cases run in worker processes. Findings are: a timeout,
a crash, a traceback, a wrong exit code, an error without a file name, and a contradictory output
folder. Writes bench/results/fuzz.json.

Not a finding, but counted: an engine that crashes over a damaged graph with valid hashes. Only the
engine itself could detect such a graph; --require-signature refuses the bundle before it is opened.
"""

from __future__ import annotations

import json
import shutil
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

import click

from bench.paths import RESULTS
from schemas.cli.types import Duration
from tests.robustness.fuzz.cases.kinds import KINDS
from tests.robustness.fuzz.inputs import FuzzInputs
from tests.robustness.fuzz.run_case import FuzzRun, Outcome
from tests.robustness.fuzz.workers import run_cases

PROGRESS_CASES = 200


@click.command(help=__doc__)
@click.option("--cases", default=10_000, show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option("--only", type=int, help="Run a single case by its number and keep its folder.")
@click.option("--jobs", default=2, show_default=True, help="Worker processes.")
@click.option("--budget", type=Duration(), help="Start no case after this time (90s, 20m, 1h).")
@click.option(
    "--work",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("artifacts/fuzz"),
    show_default=True,
    help="Folder for the inputs, made again unless --only is given, and for cases with findings.",
)
@click.option(
    "--results",
    type=click.Path(path_type=Path, dir_okay=False),
    default=RESULTS / "fuzz.json",
    hidden=True,
)
def main(
    cases: int,
    seed: int,
    only: int | None,
    jobs: int,
    budget: float | None,
    work: Path,
    results: Path,
) -> None:
    """Run all cases, report findings, write the results."""
    run = FuzzRun(_make_inputs(work.resolve(), reuse=only is not None), work.resolve(), seed)
    numbers = range(cases) if only is None else [only]
    outcomes = _run_all(run, numbers, jobs if only is None else 1, budget or float("inf"))
    kinds = summarize(outcomes)
    for kind, counts in kinds.items():
        click.echo(f"{kind:16} " + ", ".join(f"{name} {value}" for name, value in counts.items()))
    findings = sum(bool(outcome.problems) for outcome in outcomes)
    if only is None:
        record = {"seed": seed, "cases": len(outcomes), "findings": findings, "kinds": kinds}
        results.parent.mkdir(exist_ok=True)
        results.write_text(json.dumps(record, indent=1) + "\n")
    if findings:
        raise click.ClickException(
            f"{findings} of {len(outcomes)} cases have findings; --seed {seed} --only NUMBER "
            f"repeats a case, its inputs are in {run.work / 'cases'}"
        )
    click.echo(f"{len(outcomes):,} cases: no traceback, no hang, no partial file")


def summarize(outcomes: Sequence[Outcome]) -> dict[str, dict[str, object]]:
    """Counts by kind: cases, inputs that could not be written, exit codes, findings."""
    by_kind: dict[str, list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        by_kind[outcome.kind].append(outcome)
    return {kind: _summarize_kind(by_kind[kind]) for kind in KINDS}


def _summarize_kind(outcomes: Sequence[Outcome]) -> dict[str, object]:
    codes = Counter(outcome.exit_code for outcome in outcomes if outcome.exit_code is not None)
    return {
        "cases": len(outcomes),
        "unwritable": sum(outcome.unwritable for outcome in outcomes),
        "engine_crashed": sum(outcome.engine_crashed for outcome in outcomes),
        "exit_codes": {str(code): codes[code] for code in sorted(codes)},
        "findings": sum(bool(outcome.problems) for outcome in outcomes),
        "longest_s": round(max((outcome.seconds for outcome in outcomes), default=0.0), 1),
    }


def _make_inputs(work: Path, *, reuse: bool) -> FuzzInputs:
    """The inputs of all cases. reuse: those of the last run, if there are any."""
    from tests.robustness.fuzz.prepare import prepare_inputs

    inputs = FuzzInputs(work / "inputs")
    if reuse and inputs.finished.exists():
        return inputs
    shutil.rmtree(work, ignore_errors=True)
    return prepare_inputs(inputs.folder)


def _run_all(run: FuzzRun, numbers: Sequence[int], jobs: int, budget_s: float) -> list[Outcome]:
    """Run all cases, or as many as the budget allows, and report findings as they arrive."""
    started = time.monotonic()
    within_budget = (number for number in numbers if time.monotonic() - started < budget_s)
    outcomes: list[Outcome] = []
    for outcome in run_cases(run, within_budget, jobs=jobs):
        outcomes.append(outcome)
        if outcome.problems:
            _report(outcome, run.seed)
        if len(outcomes) % PROGRESS_CASES == 0 or len(outcomes) == len(numbers):
            rate = len(outcomes) / (time.monotonic() - started)
            findings = sum(bool(other.problems) for other in outcomes)
            click.echo(
                f"{len(outcomes):,} of {len(numbers):,} cases, {rate:.1f}/s, {findings} findings"
            )
    return outcomes


def _report(outcome: Outcome, seed: int) -> None:
    click.echo(f"\ncase {outcome.number} ({outcome.kind}): {'; '.join(outcome.problems)}")
    click.echo(f"  changed: {outcome.description}")
    for line in outcome.stderr.strip().splitlines()[-12:]:
        click.echo(f"  | {line[:300]}")
    click.echo(f"  repeat: python -m tests.robustness.fuzz --seed {seed} --only {outcome.number}")


if __name__ == "__main__":
    main()
