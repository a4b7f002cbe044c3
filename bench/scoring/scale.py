"""Rows a second, peak memory and start-up of `batch-classify`: `make bench-scale`.

Flat in the number of rows with a tiny random encoder, and what a real encoder needs. Writes
bench/results/scale.json and docs/benchmarks/scale.md. Memory is the peak resident size of a whole
process, as the kernel counts it (Linux).
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import click
import numpy as np
from pydantic import BaseModel, ConfigDict

from batch.engines import usable_engines
from batch.engines.versions import engine_and_cpu
from batch.machine.device import choose_device
from bench.bundles import TINY, random_bundle, widened_bundle
from bench.corpora import long_corpus, short_corpus
from bench.paths import PAGES, RESULTS
from schemas.markdown import markdown_table

RESULTS_FILE = RESULTS / "scale.json"
PAGE = PAGES / "scale.md"
MAX_TOKENS = 512
"""Tokens read of an article: the most that the default encoder can take."""
LONG_ARTICLES = 1024
STARTS = 5
COMMAND = str(Path(sys.executable).with_name("batch-classify"))


class Scale(BaseModel):
    """Figures of one corpus. peak_rss_mb, seconds: of the whole process, start-up included."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rows: int
    seconds: float
    rows_per_s: float
    peak_rss_mb: float


@dataclass(frozen=True)
class Measured:
    """One process: its time and its peak memory."""

    seconds: float
    peak_mb: float

    def of(self, rows: int) -> Scale:
        """As a row of the table."""
        return Scale(
            rows=rows,
            seconds=round(self.seconds, 2),
            rows_per_s=round(rows / self.seconds, 1),
            peak_rss_mb=round(self.peak_mb, 1),
        )


def measure(arguments: Sequence[str]) -> Measured:
    """Run batch-classify in a process of its own.

    The kernel's high-water mark is read while the process runs: what `wait4` reports afterwards
    would include the memory of this process, which the new one starts as a copy of.
    """
    peak_kb = 0
    started = time.perf_counter()
    with subprocess.Popen([COMMAND, *arguments], stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            status = Path(f"/proc/{process.pid}/status").read_text()
            found = re.search(r"VmHWM:\s+(\d+) kB", status)
            if found and COMMAND in Path(f"/proc/{process.pid}/cmdline").read_text():
                peak_kb = int(found[1])
            time.sleep(0.02)
    seconds = time.perf_counter() - started
    if process.returncode != 0:
        raise click.ClickException(f"batch-classify ended with {process.returncode}")
    return Measured(seconds, peak_kb / 1024)


def score(corpus: Path, bundle: Path, task: str, output: Path) -> Measured:
    """Score a corpus on the CPU."""
    words = [str(corpus), "--task", task, "--bundle", str(bundle)]
    return measure([*words, "--output", str(output), "--device", "cpu"])


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
@click.option("--results", type=click.Path(path_type=Path), default=RESULTS_FILE)
@click.option("--page", type=click.Path(path_type=Path), default=PAGE)
def main(bundle: Path, task: str, rows: int, results: Path, page: Path) -> None:
    """Measure and write down."""
    rng = np.random.default_rng(0)
    with TemporaryDirectory() as folder:
        work = Path(folder)
        tiny = random_bundle(bundle, task, work / "tiny", config=TINY)
        flat = []
        for count in (rows // 100, rows // 10, rows):
            path = work / f"{count}.parquet"
            short_corpus(count, rng).write_parquet(path, row_group_size=100_000)
            flat.append(score(path, tiny, task, work / f"scored-{count}").of(count))
            click.echo(f"tiny encoder: {flat[-1]}")
        long_path, few = work / "long.parquet", work / "few.parquet"
        articles = long_corpus(LONG_ARTICLES, rng)
        articles.write_parquet(long_path)
        articles.head(10).write_parquet(few)
        wide = widened_bundle(bundle, task, work / "wide", max_tokens=MAX_TOKENS)
        default = score(long_path, wide, task, work / "default").of(LONG_ARTICLES)
        click.echo(f"default encoder, long articles: {default}")
        helped = median(measure(["--help"]).seconds for _ in range(STARTS))
        first = median(
            score(few, wide, task, work / f"first-{number}").seconds for number in range(STARTS)
        )
        click.echo(f"--help {helped:.2f} s, ten articles {first:.2f} s")
    record = {
        "tiny": [found.model_dump() for found in flat],
        "memory_ratio": round(flat[-1].peak_rss_mb / flat[-2].peak_rss_mb, 4),
        "default_encoder": default.model_dump(),
        "help_s": round(helped, 3),
        "ten_articles_s": round(first, 3),
        "machine": engine_and_cpu(usable_engines("fp32", choose_device("cpu"))[0]),
    }
    results.parent.mkdir(parents=True, exist_ok=True)
    results.write_text(json.dumps(record, indent=1) + "\n")
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(_page(flat, default, helped_s=helped, first_s=first))


def _page(flat: Sequence[Scale], default: Scale, *, helped_s: float, first_s: float) -> str:
    rows = [("tiny random encoder, 5 to 20 words", found) for found in flat]
    rows.append((f"default encoder, long articles read to {MAX_TOKENS} tokens", default))
    table = markdown_table(
        ["encoder and texts", "rows", "rows/s", "seconds", "peak MB"],
        [
            [
                name,
                f"{found.rows:,}",
                f"{found.rows_per_s:,.0f}",
                f"{found.seconds:,.1f}",
                f"{found.peak_rss_mb:,.0f}",
            ]
            for name, found in rows
        ],
    )
    ratio = flat[-1].peak_rss_mb / flat[-2].peak_rss_mb
    return (
        "# Scale of `batch-classify`\n\n"
        "`make bench-scale` wrote this page. Whole processes on a CPU, start-up included; memory "
        f"is the peak resident size.\n\n{table}\n"
        f"Ten times the rows, from {flat[-2].rows:,} on, need {ratio:.3f} times the memory.\n\n"
        f"`batch-classify --help` takes {helped_s:.2f} s, ten articles with the default encoder "
        f"{first_s:.2f} s from the command to the report (medians of {STARTS}).\n"
    )


if __name__ == "__main__":
    main()
