"""Stop `batch-classify` at random moments, disturb it, resume, and compare every byte.

Each round scores a corpus of several files, whole or in two shards that are merged. Up to ten times
a round the command is stopped: by SIGKILL, or by SIGTERM or SIGINT, from its first moment on; those
two must end it within two seconds with exit code 4. Between two attempts others try the same
folder: with the inputs in another order, on another processor (`ONEDNN_MAX_CPU_ISA` stands in for
one), and with output streams that are full, closed or broken. In the end the folder must be byte
for byte that of an uninterrupted run; `timings` in run.json is the one part that may differ.
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

from bench.corpora import short_corpus
from tests.robustness.inputs import tiny_bundle
from tests.robustness.processes import (
    COMMAND,
    OTHER_PROCESSOR,
    STREAMS,
    start,
    wait_until_it_listens,
)

KILLS_A_ROUND = 10
PROMISED_S = 2.0
SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT)


@dataclass
class Tally:
    """Counts over all rounds. slowest_s: longest time from SIGTERM or SIGINT to the end."""

    kills: int = 0
    hits: Counter[str] = field(default_factory=Counter)
    slowest_s: float = 0.0


@dataclass(frozen=True)
class Setting:
    """What every round shares. whole_s: time of an uninterrupted run."""

    files: tuple[Path, ...]
    options: tuple[str, ...]
    whole_s: float
    chance: random.Random
    tally: Tally

    def command(self, output: Path, *more: str) -> list[str]:
        """The command of a round."""
        return [COMMAND, *map(str, self.files), *self.options, *more, "--output", str(output)]

    def reordered(self, output: Path, *more: str) -> list[str]:
        """The same with the inputs in another order."""
        files = map(str, reversed(self.files))
        return [COMMAND, *files, *self.options, *more, "--output", str(output)]


def contents(folder: Path) -> dict[str, str]:
    """Hash of every file of an output folder, `timings` of run.json left out."""
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
@click.option("--kills", default=200, show_default=True, help="Kills and signals in all.")
@click.option("--rows", default=4_500, show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option("--minutes", default=30.0, show_default=True, help="Begin no round after so long.")
def main(kills: int, rows: int, seed: int, minutes: float) -> None:
    """Torture until all kills are spent."""
    ends = time.monotonic() + 60 * minutes
    with TemporaryDirectory() as folder:
        work = Path(folder)
        setting = _prepare(work, rows, seed)
        expected = contents(work / "whole")
        rounds, tally = 0, setting.tally
        while tally.kills < kills and time.monotonic() < ends:
            rounds += 1
            before = tally.kills
            output = work / f"round-{rounds}"
            if setting.chance.random() < 0.3:
                _sharded_round(setting, output, kills)
            else:
                _attack(setting, setting.command(output), output, kills)
            _compare(contents(output), expected, rounds)
            click.echo(
                f"round {rounds}: stopped {tally.kills - before} times, byte for byte the same"
            )
    shown = ", ".join(f"{count} {name}" for name, count in sorted(tally.hits.items()))
    click.echo(
        f"{tally.kills} stops in {rounds} rounds ({shown}): every output folder is that of an "
        f"uninterrupted run; a signal took {tally.slowest_s:.1f} s at most"
    )


def _prepare(work: Path, rows: int, seed: int) -> Setting:
    """Make bundle and corpus, and score the whole once."""
    bundle = tiny_bundle(work / "tiny")
    rng = np.random.default_rng(seed)
    files = tuple(work / f"{name}.parquet" for name in ("monday", "tuesday", "wednesday"))
    for path in files:
        short_corpus(rows // len(files), rng).write_parquet(path)
    scoring = ("--task", "narrative", "--bundle", str(bundle), "--device", "cpu")
    options = (*scoring, "--chunk-rows", "250")
    setting = Setting(files, options, 0.0, random.Random(seed), Tally())
    clock = time.monotonic()
    subprocess.run(setting.command(work / "whole"), check=True, capture_output=True)
    whole_s = time.monotonic() - clock
    click.echo(f"uninterrupted: {whole_s:.1f} s")
    return Setting(files, options, whole_s, setting.chance, setting.tally)


def _sharded_round(setting: Setting, output: Path, kills: int) -> None:
    """Score two shards under attack, see that a swapped one is not merged, and merge them."""
    shards = [output.with_name(f"{output.name}-shard-{number}") for number in (1, 2)]
    for number, shard in enumerate(shards, 1):
        part = ("--shard", f"{number}/2")
        _attack(setting, setting.command(shard, *part), shard, kills, shard=part)
    swapped = output.with_name(f"{output.name}-swapped")
    _expect(setting.reordered(swapped, "--shard", "2/2"), 0, "a shard of another order")
    merged = output.with_name(f"{output.name}-wrong")
    wrong = [COMMAND, "merge", str(shards[0]), str(swapped), "--output", str(merged)]
    _expect(wrong, 1, "merging shards whose inputs stand in another order")
    if merged.exists():
        raise click.ClickException("shards of two orders were merged")
    setting.tally.hits["swapped shards refused"] += 1
    merge = [COMMAND, "merge", *map(str, shards), "--output", str(output)]
    _attack(setting, merge, output, kills, intruders=False)


def _attack(
    setting: Setting,
    command: list[str],
    output: Path,
    kills: int,
    *,
    shard: tuple[str, ...] = (),
    intruders: bool = True,
) -> None:
    """Run a command until it ends by itself, and disturb it meanwhile."""
    attempts = 0
    while True:
        left = min(kills - setting.tally.kills, KILLS_A_ROUND - attempts)
        if not _stopped(setting, command, attack=left > 0):
            return
        attempts += 1
        if intruders and (output / ".narrascan" / "key.json").exists():
            _intrude(setting, output, shard)


def _stopped(setting: Setting, command: list[str], *, attack: bool) -> bool:
    """Run a command; True if it was stopped before its end. Raises if it ended wrongly."""
    chance, tally = setting.chance, setting.tally
    streams = chance.choice(list(STREAMS)) if chance.random() < 0.15 else None
    process = start(command, streams=streams)
    number = chance.choice(SIGNALS) if attack and streams is None else None
    if number is None:
        code = process.wait()
        if code != 0:
            raise click.ClickException(f"streams {streams or 'whole'}: ended with {code}")
        if streams is not None:
            tally.hits[f"streams {streams}"] += 1
        return False
    early = chance.random() < 0.25
    patience = chance.uniform(0.0, 0.4 if early else setting.whole_s * 0.7)
    try:
        wait_until_it_listens(process)
        if process.wait(patience) != 0:
            raise click.ClickException(f"ended with {process.returncode} before it was stopped")
        return False
    except subprocess.TimeoutExpired:
        process.send_signal(number)
    started = time.monotonic()
    code = process.wait()
    tally.kills += 1
    tally.hits[number.name] += 1
    if number != signal.SIGKILL:
        seconds = time.monotonic() - started
        tally.slowest_s = max(tally.slowest_s, seconds)
        if code not in (0, 4) or seconds > PROMISED_S:
            raise click.ClickException(f"{number.name}: ended with {code} after {seconds:.1f} s")
    return code != 0


def _intrude(setting: Setting, output: Path, shard: tuple[str, ...]) -> None:
    """Let another run try the folder of one that was stopped: it is refused and changes nothing."""
    intruder = setting.chance.choice(("order", "processor", None, None))
    if intruder is None:
        return
    before = contents(output / "predictions")
    command = setting.command(output, *shard)
    if intruder == "order":
        command = setting.reordered(output, *shard)
    environment = OTHER_PROCESSOR if intruder == "processor" else {}
    _expect(command, 1, f"a run that differs in its {intruder}", environment)
    if contents(output / "predictions") != before:
        raise click.ClickException(f"a run that differs in its {intruder} changed parts")
    setting.tally.hits[f"other {intruder} refused"] += 1


def _expect(
    command: Sequence[str], code: int, what: str, environment: Mapping[str, str] | None = None
) -> None:
    run = subprocess.run(
        command,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        check=False,
    )
    if run.returncode != code:
        raise click.ClickException(f"{what}: exit {run.returncode}, expected {code}\n{run.stderr}")


def _compare(hashes: Mapping[str, str], expected: Mapping[str, str], rounds: int) -> None:
    if hashes != expected:
        differing = sorted(
            name for name in {*hashes, *expected} if hashes.get(name) != expected.get(name)
        )
        raise click.ClickException(f"round {rounds}: differs in {differing}")


if __name__ == "__main__":
    main()
