"""Kill `batch-classify` with SIGKILL at random moments, resume, and compare every byte.

Each round scores a corpus of several files, killed at up to ten random moments, until it is
finished; the output folder must then be byte for byte that of an uninterrupted run. `timings` in
run.json is the one part that may differ.
"""

from __future__ import annotations

import hashlib
import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import numpy as np

from bench.corpora import short_corpus, tiny_bundle

COMMAND = str(Path(sys.executable).with_name("batch-classify"))


def contents(folder: Path) -> dict[str, str]:
    """Hash of every file of an output folder, `timings` of run.json left out."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            raw = path.read_bytes()
            if path == folder / "run.json":
                record = json.loads(raw)
                del record["timings"]
                raw = json.dumps(record).encode()
            found[str(path.relative_to(folder))] = hashlib.sha256(raw).hexdigest()
    return found


@click.command(help=__doc__)
@click.option("--kills", default=200, show_default=True, help="Kills in all.")
@click.option("--rows", default=4_500, show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option("--minutes", default=30.0, show_default=True, help="Begin no round after so long.")
def main(kills: int, rows: int, seed: int, minutes: float) -> None:
    """Torture until all kills are spent."""
    ends = time.monotonic() + 60 * minutes
    chance = random.Random(seed)
    with TemporaryDirectory() as folder:
        work = Path(folder)
        bundle = tiny_bundle(work / "tiny")
        corpus = work / "corpus"
        corpus.mkdir()
        rng = np.random.default_rng(seed)
        for part in range(3):
            short_corpus(rows // 3, rng).write_parquet(corpus / f"{part}.parquet")
        command = [COMMAND, str(corpus), "--task", "narrative", "--bundle", str(bundle)]
        command += ["--chunk-rows", "250", "--device", "cpu"]
        clock = time.monotonic()
        subprocess.run([*command, "--output", str(work / "whole")], check=True, capture_output=True)
        whole_s = time.monotonic() - clock
        click.echo(f"uninterrupted: {whole_s:.1f} s")
        expected = contents(work / "whole")
        done = rounds = 0
        while done < kills and time.monotonic() < ends:
            rounds += 1
            output = work / f"killed-{rounds}"
            hits = _score_under_fire(
                [*command, "--output", str(output)], kills - done, whole_s, chance
            )
            done += hits
            found = contents(output)
            if found != expected:
                differing = sorted(
                    name for name in {*found, *expected} if found.get(name) != expected.get(name)
                )
                raise click.ClickException(f"round {rounds}: differs in {differing}")
            click.echo(f"round {rounds}: killed {hits} times, resumed, byte for byte the same")
    click.echo(
        f"{done} kills, {rounds} rounds: every output folder is that of an uninterrupted run"
    )


def _score_under_fire(command: list[str], kills: int, whole_s: float, chance: random.Random) -> int:
    """Run the command until it ends by itself; returns how often it was killed before."""
    hits = 0
    while True:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        patience = chance.uniform(0.3, whole_s * 0.7) if hits < min(kills, 10) else None
        try:
            code = process.wait(patience)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            hits += 1
            continue
        if code != 0:
            raise click.ClickException(f"the command ended with {code}")
        return hits


if __name__ == "__main__":
    main()
