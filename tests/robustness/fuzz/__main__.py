"""Feed thousands of broken inputs to `batch-classify`: no traceback, no hang, no half file.

Seed and number determine what is changed; --only repeats a case over the inputs of the last run,
whose keys and times are its own. Cases run in worker processes. A finding is one that takes too
long or takes its process down, a traceback, a wrong exit code, an error without a file's name, and
an output folder that contradicts itself. Writes bench/results/fuzz.json.

Not a finding, but counted: an engine that falls over a graph which someone changed with hashes to
fit. No check short of the engine's own can tell; --require-signature refuses such a bundle before
it is opened.
"""

from __future__ import annotations

import json
import multiprocessing
import re
import shutil
import signal
import time
from collections import Counter, defaultdict
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path

import click

from batch.cli_types import Duration
from bench.paths import RESULTS
from tests.robustness.fuzz.case import Bench, Outcome, work
from tests.robustness.fuzz.kinds import KINDS, Ground, kind_of, run_words

RESULTS_FILE = RESULTS / "fuzz.json"
LIMIT_S = 60.0
"""Seconds that a case may take; an ordinary one takes a fifth of one."""
UNVOUCHED = ("bundle bytes", "bundle graph")
"""Kinds in which a graph is changed with hashes to fit."""
IN_ENGINE = re.compile(
    r"Current thread .*\n(  <no Python frame>|  File \".*"
    r"(/onnxruntime/|/openvino/|batch/engines/(onnxruntime|openvino|buffers)\.py))"
)
"""What faulthandler says when the innermost call is one of an engine, or one of its own threads."""
_SPAWN = multiprocessing.get_context("spawn")  # a forked process would share locks of libraries


@dataclass
class _Worker:
    """A process that runs cases. number: of the case it is at; since: when that began."""

    bench: Bench
    index: int
    number: int | None = None
    since: float = 0.0
    process: SpawnProcess = field(init=False)
    pipe: Connection = field(init=False)

    def __post_init__(self) -> None:
        self.pipe, theirs = _SPAWN.Pipe()
        self.process = _SPAWN.Process(target=work, args=(self.bench, self.index, theirs))
        self.process.start()
        theirs.close()

    def give(self, number: int) -> None:
        self.number, self.since = number, time.monotonic()
        self.pipe.send(number)

    def outcome(self, answered: bool, limit_s: float) -> Outcome | None:
        """None while it is at its case; one that takes too long is ended."""
        if answered or not self.process.is_alive():
            return self._taken()
        return self._ended(limit_s) if time.monotonic() - self.since > limit_s else None

    def _taken(self) -> Outcome:
        """The outcome of its case, or what became of the process."""
        outcome = self._received()
        if outcome is None:
            self.process.join()
            code = self.process.exitcode or 0
            name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
            outcome = self._lost(f"killed its process: {name}", fell=code < 0)
        self.number = None
        return outcome

    def _received(self) -> Outcome | None:
        """None if the process is gone; the pipe may be held open by one that it started."""
        try:
            outcome: Outcome | None = self.pipe.recv() if self.pipe.poll() else None
        except EOFError:
            return None
        return outcome

    def _ended(self, limit_s: float) -> Outcome:
        """Kill a process that takes too long."""
        self.process.kill()
        self.process.join()
        outcome = self._lost(f"took longer than {limit_s:g} s")
        self.number = None
        return outcome

    def dismiss(self) -> None:
        """End the process, which has nothing to do."""
        if self.process.is_alive():
            if self.number is None:
                self.pipe.send(None)
            else:
                self.process.kill()
        self.process.join()
        self.pipe.close()

    def _lost(self, problem: str, *, fell: bool = False) -> Outcome:
        """What there is to say of a case whose process is gone. fell: by itself, by a signal."""
        assert self.number is not None
        kind = kind_of(self.number)
        said = self.bench.log(self.index, "err").read_text(encoding="utf-8", errors="replace")
        note = self.bench.case_folder(self.number) / "case.json"
        excused = fell and kind in UNVOUCHED and bool(IN_ENGINE.search(said))
        return Outcome(
            self.number,
            kind,
            exit_code=None,
            problems=() if excused else (problem,),
            seconds=time.monotonic() - self.since,
            story=json.loads(note.read_text())["story"] if note.exists() else "while it was made",
            said=said[-3000:],
            engine_fell=excused,
            fell_silently=fell and kind in UNVOUCHED and "Current thread" not in said,
        )


def outcomes(
    bench: Bench, numbers: Iterable[int], *, jobs: int, limit_s: float = LIMIT_S
) -> Generator[Outcome]:
    """Run cases on `jobs` processes; yields outcomes as they come. Close it to stop early.

    One over whose graph a process fell without a word is run again in a new process: an engine that
    wrote over the memory of an old one may have taken along what would have told where it fell.
    """
    waiting = iter(numbers)
    again: set[int] = set()
    workers: list[_Worker] = []
    try:
        for index in range(jobs):
            if (number := next(waiting, None)) is not None:
                workers.append(_Worker(bench, index))
                workers[-1].give(number)
        while busy := [worker for worker in workers if worker.number is not None]:
            ready = wait([worker.pipe for worker in busy], timeout=0.2)
            for worker in busy:
                outcome = worker.outcome(worker.pipe in ready, limit_s)
                if outcome is None:
                    continue
                if outcome.fell_silently and outcome.number not in again:
                    again.add(outcome.number)
                    waiting = chain([outcome.number], waiting)
                else:
                    yield outcome
                number = next(waiting, None)
                if number is not None and not worker.process.is_alive():
                    workers[worker.index] = worker = _Worker(bench, worker.index)  # noqa: PLW2901
                if number is not None:
                    worker.give(number)
    finally:
        for worker in workers:
            worker.dismiss()


def lay_ground(folder: Path, *, bundle: Path | None = None) -> Ground:
    """Make what cases start from: see `Ground`.

    bundle: with tasks narrative and entity_framing; a tiny one is made by default.
    """
    from click.testing import CliRunner

    from batch.cli import main as command
    from exporter.bundle.sign import make_keys, sign_bundle
    from tests.robustness.inputs import fuzz_corpora, pretend_bf16, tiny_bundle

    ground = Ground(folder)
    shutil.copytree(bundle or tiny_bundle(folder / "tiny"), ground.bundle)
    pretend_bf16(ground.bundle)
    private = folder / "key"
    make_keys(private)
    sign_bundle(ground.bundle, private)
    fuzz_corpora(folder / "corpora")
    words = [*run_words(ground, ground.corpus), "--task", "narrative"]
    gold = ["--gold-column", "narratives"]
    for more in (
        [*gold, "--output", str(ground.finished)],
        *(
            ["--shard", f"{number}/2", "--output", str(shard)]
            for number, shard in enumerate(ground.shards, 1)
        ),
        ["--cache", str(ground.cache), "--output", str(folder / "with-cache")],
        [str(ground.corpora[1]), "--output", str(ground.finished_pair)],
    ):
        result = CliRunner().invoke(command, [*words, *more, "--max-quarantined", "1"])
        if result.exit_code != 0:
            raise click.ClickException(f"the inputs cannot be prepared: {result.output}")
    return ground


def summary(found: Sequence[Outcome]) -> dict[str, dict[str, object]]:
    """By kind: cases, those that could not be made, exit codes, findings."""
    by_kind: dict[str, list[Outcome]] = defaultdict(list)
    for outcome in found:
        by_kind[outcome.kind].append(outcome)
    told: dict[str, dict[str, object]] = {}
    for kind in KINDS:
        of_kind = by_kind.get(kind, [])
        codes = Counter(one.exit_code for one in of_kind if one.exit_code is not None)
        told[kind] = {
            "cases": len(of_kind),
            "not_made": sum(
                one.exit_code is None and not one.problems and not one.engine_fell
                for one in of_kind
            ),
            "engine_fell": sum(one.engine_fell for one in of_kind),
            "exit_codes": {str(code): codes[code] for code in sorted(codes)},
            "findings": sum(bool(one.problems) for one in of_kind),
            "longest_s": round(max((one.seconds for one in of_kind), default=0.0), 1),
        }
    return told


def _tell(outcome: Outcome, seed: int) -> None:
    click.echo(f"\ncase {outcome.number} ({outcome.kind}): {'; '.join(outcome.problems)}")
    click.echo(f"  changed: {outcome.story}")
    for line in outcome.said.strip().splitlines()[-12:]:
        click.echo(f"  | {line[:300]}")
    click.echo(f"  again: python -m tests.robustness.fuzz --seed {seed} --only {outcome.number}")


def _run_all(bench: Bench, numbers: Sequence[int], jobs: int, budget_s: float) -> list[Outcome]:
    """Run all cases, or as many as the time allows, and tell findings as they come."""
    clock = time.monotonic()
    ends = (number for number in numbers if time.monotonic() - clock < budget_s)
    found: list[Outcome] = []
    for outcome in outcomes(bench, ends, jobs=jobs):
        found.append(outcome)
        if outcome.problems:
            _tell(outcome, bench.seed)
        if len(found) % 200 == 0 or len(found) == len(numbers):
            rate = len(found) / (time.monotonic() - clock)
            bad = sum(bool(one.problems) for one in found)
            click.echo(f"{len(found):,} of {len(numbers):,} cases, {rate:.1f}/s, {bad} findings")
    return found


@click.command(help=__doc__)
@click.option("--cases", default=10_000, show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option("--only", type=int, help="Run one case, by its number, and keep its folder.")
@click.option("--jobs", default=2, show_default=True, help="Processes.")
@click.option("--budget", type=Duration(), help="Start no case after this long (90s, 20m, 1h).")
@click.option(
    "--work",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("artifacts/fuzz"),
    show_default=True,
    help="Folder for what cases start from, remade but for --only, and for cases with findings.",
)
@click.option(
    "--results", type=click.Path(path_type=Path, dir_okay=False), default=RESULTS_FILE, hidden=True
)
def main(
    cases: int,
    seed: int,
    only: int | None,
    jobs: int,
    budget: float | None,
    folder: Path,
    results: Path,
) -> None:
    """Fuzz, tell, and write down."""
    folder = folder.resolve()
    ground = Ground(folder / "ground")
    if only is None or not ground.finished.exists():
        shutil.rmtree(folder, ignore_errors=True)
        lay_ground(ground.folder)
    bench = Bench(ground, folder, seed)
    numbers = range(cases) if only is None else [only]
    found = _run_all(bench, numbers, jobs if only is None else 1, budget or float("inf"))
    kinds = summary(found)
    for kind, facts in kinds.items():
        click.echo(f"{kind:16} " + ", ".join(f"{name} {value}" for name, value in facts.items()))
    bad = [one for one in found if one.problems]
    if only is None:
        record = {"seed": seed, "cases": len(found), "findings": len(bad), "kinds": kinds}
        results.parent.mkdir(exist_ok=True)
        results.write_text(json.dumps(record, indent=1) + "\n")
    if bad:
        raise click.ClickException(
            f"{len(bad)} of {len(found)} cases are findings; --seed {seed} --only NUMBER repeats "
            f"one, its input is in {folder / 'cases'}"
        )
    click.echo(f"{len(found):,} cases: no traceback, no hang, no half-written file")


if __name__ == "__main__":
    main()
