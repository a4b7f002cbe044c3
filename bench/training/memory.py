"""Memory of a training run over time.

    python -m bench.training.memory configs/reuters.toml --set train.epochs=1 --seconds 600

Starts `train-classifier` in a separate process, stops it after --seconds, and prints the resident
memory in each tenth of the run and the peak.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import time

import click
import psutil

INTERVAL_S = 0.2
PARTS = 10


def measure(arguments: list[str], seconds: float) -> list[float]:
    """Resident memory in MB, every 0.2 s until the command exits or is stopped."""
    samples_mb = []
    with subprocess.Popen([sys.executable, "-m", "trainer.cli", *arguments]) as process:
        monitored, deadline = psutil.Process(process.pid), time.monotonic() + seconds
        while process.poll() is None and time.monotonic() < deadline:
            samples_mb.append(monitored.memory_info().rss / 2**20)
            time.sleep(INTERVAL_S)
        cpu = monitored.cpu_times() if process.poll() is None else None
        process.send_signal(signal.SIGINT)
    if cpu is not None:
        print(f"stopped after {cpu.user + cpu.system:.0f} s of CPU time")
    return samples_mb


@click.command()
@click.argument("config", type=click.Path(exists=True))
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE")
@click.option("--seconds", default=600.0, show_default=True)
def main(config: str, overrides: tuple[str, ...], seconds: float) -> None:
    """Print the resident memory of a training run of CONFIG."""
    settings = [argument for override in overrides for argument in ("--set", override)]
    with tempfile.TemporaryDirectory() as folder:
        samples_mb = measure([config, "--output", f"{folder}/checkpoint", *settings], seconds)
    size = max(1, -(-len(samples_mb) // PARTS))
    for first in range(0, len(samples_mb), size):
        part = samples_mb[first : first + size]
        print(f"{first * INTERVAL_S:6.0f} s  min {min(part):6.0f} MB  max {max(part):6.0f} MB")
    print(f"peak {max(samples_mb):.0f} MB")


if __name__ == "__main__":
    main()
