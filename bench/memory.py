"""Peak memory of `batch-classify`: with the default encoder, and flat in the number of rows.

Writes bench/results/memory.json and docs/benchmarks/memory.md. Each figure is the peak resident
size of a whole process, as the kernel counts it (Linux).
"""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import numpy as np

from bench.corpora import long_corpus, short_corpus, tiny_bundle, widened_bundle

RESULTS = Path(__file__).parent / "results" / "memory.json"
PAGE = Path(__file__).parents[1] / "docs" / "benchmarks" / "memory.md"
MAX_TOKENS = 512
"""Tokens read of an article: the most that the default encoder can take."""
COMMAND = str(Path(sys.executable).with_name("batch-classify"))


def peak_mb(corpus: Path, bundle: Path, task: str, output: Path) -> float:
    """Run batch-classify in a process of its own; returns its peak resident memory in MB.

    The kernel's high-water mark is read while the process runs: what `wait4` reports afterwards
    would include the memory of this process, which the new one starts as a copy of.
    """
    words = [COMMAND, str(corpus), "--task", task, "--bundle", str(bundle)]
    words += ["--output", str(output), "--device", "cpu"]
    peak_kb = 0
    with subprocess.Popen(words) as process:
        while process.poll() is None:
            status = Path(f"/proc/{process.pid}/status").read_text()
            found = re.search(r"VmHWM:\s+(\d+) kB", status)
            if found and COMMAND in Path(f"/proc/{process.pid}/cmdline").read_text():
                peak_kb = int(found[1])
            time.sleep(0.05)
    if process.returncode != 0:
        raise click.ClickException(f"batch-classify ended with {process.returncode}")
    return peak_kb / 1024


@click.command(help=__doc__)
@click.option(
    "--bundle",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    default=Path("artifacts/bundle"),
    show_default=True,
    help="Bundle with the default encoder.",
)
@click.option("--task", default="narrative", show_default=True)
@click.option("--rows", default=1_000_000, show_default=True, help="Rows of the largest corpus.")
def main(bundle: Path, task: str, rows: int) -> None:
    """Measure and write down."""
    rng = np.random.default_rng(0)
    with TemporaryDirectory() as folder:
        work = Path(folder)
        long_path = work / "long.parquet"
        long_corpus(1024, rng).write_parquet(long_path)
        wide = widened_bundle(bundle, task, work / "wide", max_tokens=MAX_TOKENS)
        default_mb = peak_mb(long_path, wide, task, work / "default")
        click.echo(f"default encoder, 1,024 long articles: {default_mb:,.0f} MB")
        tiny = tiny_bundle(work / "tiny")
        flat = {}
        for count in (rows // 10, rows):
            path = work / f"{count}.parquet"
            short_corpus(count, rng).write_parquet(path, row_group_size=100_000)
            flat[count] = peak_mb(path, tiny, "narrative", work / f"scored-{count}")
            click.echo(f"tiny encoder, {count:,} short rows: {flat[count]:,.0f} MB")
    record = {
        "default_encoder_mb": round(default_mb, 1),
        "flat_mb": {str(count): round(mb, 1) for count, mb in flat.items()},
        "ratio": round(flat[rows] / flat[rows // 10], 4),
        "machine": {
            "processor": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
        },
    }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(record, indent=1) + "\n")
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    PAGE.write_text(_page(default_mb, flat, rows))


def _page(default_mb: float, flat: dict[int, float], rows: int) -> str:
    lines = [f"| tiny random encoder | {n:,} short rows | {mb:,.0f} |" for n, mb in flat.items()]
    return "\n".join(
        [
            "# Peak memory of `batch-classify`",
            "",
            "Peak resident size of the whole process, CPU, made by `make bench-memory`.",
            "",
            "| encoder | corpus | MB |",
            "| --- | --- | ---: |",
            f"| default (22 M parameters) | 1,024 articles read to {MAX_TOKENS} tokens "
            f"| {default_mb:,.0f} |",
            *lines,
            "",
            f"Ten times the rows need {flat[rows] / flat[rows // 10]:.3f} times the memory.",
            "",
        ]
    )


if __name__ == "__main__":
    main()
