"""Interrupt and disturb `batch-classify` at random moments, resume it, and compare every byte.

Each round scores a corpus of several files, whole or in two shards that are then merged. The
command is interrupted up to ten times a round, by SIGKILL, SIGTERM or SIGINT, from its start on;
after SIGTERM and SIGINT it must exit with code 4 within two seconds. Between two attempts, other
runs use the same output folder: with reordered inputs, on another processor (simulated by
`ONEDNN_MAX_CPU_ISA`), and with full, closed or broken output streams. At the end, the folder must
be identical to that of an uninterrupted run, except for `timings` in run.json.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import numpy as np
import pyarrow.parquet as pq

from bench.texts import corpus_table
from tests.robustness.bundles import robust_bundle
from tests.robustness.processes import (
    COMMAND,
    OTHER_PROCESSOR,
    STREAMS,
    start_process,
    wait_for_signal_handler,
)

MAX_KILLS_PER_ROUND = 10
SIGNAL_TIMEOUT_S = 2.0
"""Allowed seconds from SIGTERM or SIGINT to the exit."""
SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
TASKS = "narrative,outlet,vectors,topic,names"


@dataclass
class Statistics:
    """Counts over all rounds. slowest_exit_s: longest time from SIGTERM or SIGINT to the exit."""

    kills: int = 0
    events: Counter[str] = field(default_factory=Counter)
    slowest_exit_s: float = 0.0

    def __str__(self) -> str:
        return ", ".join(f"{count} {name}" for name, count in sorted(self.events.items()))


@dataclass(frozen=True)
class Setup:
    """Settings that all rounds share. run_s: duration of an uninterrupted run."""

    files: tuple[Path, ...]
    options: tuple[str, ...]
    max_kills: int
    run_s: float
    rng: random.Random
    statistics: Statistics

    def command(self, output: Path, *options: str) -> list[str]:
        """The command of a round."""
        return [COMMAND, *map(str, self.files), *self.options, *options, "--output", str(output)]

    def reordered(self, output: Path, *options: str) -> list[str]:
        """The same command with its inputs in reverse order."""
        files = map(str, reversed(self.files))
        return [COMMAND, *files, *self.options, *options, "--output", str(output)]


def output_hashes(folder: Path) -> dict[str, str]:
    """Hash of every file of an output folder, without `timings` in run.json."""
    hashes = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            raw = path.read_bytes()
            if path == folder / "run.json":
                record = json.loads(raw)
                del record["timings"]
                raw = json.dumps(record).encode()
            hashes[str(path.relative_to(folder))] = hashlib.sha256(raw).hexdigest()
    return hashes


@click.command(help=__doc__)
@click.option("--kills", default=200, show_default=True, help="Total number of signals.")
@click.option("--rows", default=4_500, show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option("--minutes", default=30.0, show_default=True, help="Start no round after this time.")
def main(kills: int, rows: int, seed: int, minutes: float) -> None:
    """Run rounds until all signals have been sent."""
    deadline = time.monotonic() + 60 * minutes
    with TemporaryDirectory() as folder:
        work = Path(folder)
        setup = _prepare(work, rows, seed, kills)
        expected = output_hashes(work / "uninterrupted")
        rounds, statistics = 0, setup.statistics
        while statistics.kills < kills and time.monotonic() < deadline:
            rounds += 1
            kills_before = statistics.kills
            output = work / f"round-{rounds}"
            if setup.rng.random() < 0.3:
                _run_sharded_round(setup, output)
            else:
                _run_interrupted(setup, setup.command(output), output)
            _compare(output_hashes(output), expected, rounds)
            click.echo(
                f"round {rounds}: {statistics.kills - kills_before} interruptions, identical output"
            )
    click.echo(
        f"{statistics.kills} interruptions in {rounds} rounds ({statistics}): every output folder "
        "is identical to that of an uninterrupted run; slowest exit after a signal: "
        f"{statistics.slowest_exit_s:.1f} s"
    )


def _prepare(work: Path, rows: int, seed: int, max_kills: int) -> Setup:
    """Make bundle and corpus, and score the corpus once without interruption."""
    bundle = robust_bundle(work / "tiny")
    rng = np.random.default_rng(seed)
    files = tuple(work / f"{name}.parquet" for name in ("monday", "tuesday", "wednesday"))
    for path in files:
        pq.write_table(corpus_table("short", rows // len(files), rng), path)
    options = ("--task", TASKS, "--bundle", str(bundle), "--device", "cpu", "--chunk-rows", "250")
    setup = Setup(files, options, max_kills, 0.0, random.Random(seed), Statistics())
    started = time.monotonic()
    subprocess.run(setup.command(work / "uninterrupted"), check=True, capture_output=True)
    run_s = time.monotonic() - started
    click.echo(f"uninterrupted run: {run_s:.1f} s")
    return Setup(files, options, max_kills, run_s, setup.rng, setup.statistics)


def _run_sharded_round(setup: Setup, output: Path) -> None:
    """Score two shards with interruptions and merge them; a reordered shard must be refused."""
    shards = [output.with_name(f"{output.name}-shard-{number}") for number in (1, 2)]
    for number, shard in enumerate(shards, 1):
        options = ("--shard", f"{number}/2")
        _run_interrupted(setup, setup.command(shard, *options), shard, shard_options=options)
    reordered = output.with_name(f"{output.name}-reordered")
    _expect_exit(setup.reordered(reordered, "--shard", "2/2"), 0, "shard of reordered inputs")
    wrong = output.with_name(f"{output.name}-wrong")
    command = [COMMAND, "merge", str(shards[0]), str(reordered), "--output", str(wrong)]
    _expect_exit(command, 1, "merge of shards with different input orders")
    if wrong.exists():
        raise click.ClickException("shards with different input orders were merged")
    setup.statistics.events["reordered shards refused"] += 1
    merge = [COMMAND, "merge", *map(str, shards), "--output", str(output)]
    _run_interrupted(setup, merge, output, conflicts=False)


def _run_interrupted(
    setup: Setup,
    command: list[str],
    output: Path,
    *,
    shard_options: tuple[str, ...] = (),
    conflicts: bool = True,
) -> None:
    """Repeat a command until it finishes, interrupting it and starting conflicting runs."""
    attempts = 0
    while True:
        kills_left = min(setup.max_kills - setup.statistics.kills, MAX_KILLS_PER_ROUND - attempts)
        if _run_once(setup, command, interrupt=kills_left > 0):
            return
        attempts += 1
        if conflicts and (output / ".narrascan" / "key.json").exists():
            _run_conflicting(setup, output, shard_options)


def _run_once(setup: Setup, command: list[str], *, interrupt: bool) -> bool:
    """Run a command; false if it was interrupted. Raises for a wrong exit code."""
    rng, statistics = setup.rng, setup.statistics
    streams = rng.choice(list(STREAMS)) if rng.random() < 0.15 else None
    process = start_process(command, streams=streams)
    number = rng.choice(SIGNALS) if interrupt and streams is None else None
    if number is None:
        code = process.wait()
        if code != 0:
            raise click.ClickException(f"exit code {code} with streams {streams or 'writable'}")
        if streams is not None:
            statistics.events[f"streams {streams}"] += 1
        return True
    early = rng.random() < 0.25
    delay_s = rng.uniform(0.0, 0.4 if early else setup.run_s * 0.7)
    try:
        wait_for_signal_handler(process)
        if process.wait(delay_s) != 0:
            raise click.ClickException(f"exit code {process.returncode} without a signal")
        return True
    except subprocess.TimeoutExpired:
        return _interrupt(process, number, statistics)


def _interrupt(
    process: subprocess.Popen[bytes], number: signal.Signals, statistics: Statistics
) -> bool:
    """Send a signal and wait for the exit; true if the run had finished before."""
    process.send_signal(number)
    started = time.monotonic()
    code = process.wait()
    statistics.kills += 1
    statistics.events[number.name] += 1
    if number != signal.SIGKILL:
        seconds = time.monotonic() - started
        statistics.slowest_exit_s = max(statistics.slowest_exit_s, seconds)
        if code not in (0, 4) or seconds > SIGNAL_TIMEOUT_S:
            raise click.ClickException(f"{number.name}: exit code {code} after {seconds:.1f} s")
    return code == 0


def _run_conflicting(setup: Setup, output: Path, shard_options: tuple[str, ...]) -> None:
    """Start another run in the folder of an interrupted one: refused without any change."""
    difference = setup.rng.choice(("order", "processor", None, None))
    if difference is None:
        return
    before = output_hashes(output / "predictions")
    command = setup.command(output, *shard_options)
    if difference == "order":
        command = setup.reordered(output, *shard_options)
    environment = OTHER_PROCESSOR if difference == "processor" else {}
    _expect_exit(command, 1, f"run with another {difference}", environment)
    if output_hashes(output / "predictions") != before:
        raise click.ClickException(f"a run with another {difference} changed predictions")
    setup.statistics.events[f"other {difference} refused"] += 1


def _expect_exit(
    command: Sequence[str], code: int, name: str, environment: Mapping[str, str] | None = None
) -> None:
    run = subprocess.run(
        command,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        check=False,
    )
    if run.returncode != code:
        raise click.ClickException(
            f"{name}: exit code {run.returncode}, expected {code}\n{run.stderr}"
        )


def _compare(hashes: Mapping[str, str], expected: Mapping[str, str], rounds: int) -> None:
    if hashes != expected:
        differing = sorted(
            name for name in {*hashes, *expected} if hashes.get(name) != expected.get(name)
        )
        raise click.ClickException(f"round {rounds}: output differs in {differing}")


if __name__ == "__main__":
    main()
