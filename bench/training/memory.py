"""Memory of a training run, second by second: how much it takes, and whether it grows.

    python -m bench.training.memory bench/training/reuters.toml --set train.epochs=1 --seconds 600

Starts `train-classifier` in a process of its own, stops it after that time, and prints the resident
memory of each tenth of the run and the peak.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import time

import click
import psutil

EVERY_S = 0.2
PARTS = 10


def measure(words: list[str], seconds: float) -> list[float]:
    """Resident memory of the command in MB, every fifth of a second until it ends or is stopped."""
    megabytes = []
    with subprocess.Popen([sys.executable, "-m", "trainer.cli", *words]) as process:
        watched, end = psutil.Process(process.pid), time.monotonic() + seconds
        while process.poll() is None and time.monotonic() < end:
            megabytes.append(watched.memory_info().rss / 2**20)
            time.sleep(EVERY_S)
        cpu = watched.cpu_times() if process.poll() is None else None
        process.send_signal(signal.SIGINT)
    if cpu is not None:
        print(f"stopped after {cpu.user + cpu.system:.0f} s of CPU time")
    return megabytes


@click.command()
@click.argument("config", type=click.Path(exists=True))
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE")
@click.option("--seconds", default=600.0, show_default=True)
def main(config: str, overrides: tuple[str, ...], seconds: float) -> None:
    """Print the resident memory of a training run of CONFIG."""
    settings = [word for override in overrides for word in ("--set", override)]
    with tempfile.TemporaryDirectory() as folder:
        megabytes = measure([config, "--output", f"{folder}/checkpoint", *settings], seconds)
    size = max(1, -(-len(megabytes) // PARTS))
    for first in range(0, len(megabytes), size):
        part = megabytes[first : first + size]
        print(f"{first * EVERY_S:6.0f} s  least {min(part):6.0f} MB  most {max(part):6.0f} MB")
    print(f"peak {max(megabytes):.0f} MB")


if __name__ == "__main__":
    main()
