"""Rows/s, peak memory and start-up time of `batch-classify`: `make bench-scale`.

Measured by number of rows with a tiny random encoder, and with the default encoder. Writes
bench/results/scale.json and docs/benchmarks/scale.md. Memory is the peak resident memory of the
whole process, as reported by the Linux kernel.
"""

from __future__ import annotations

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
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict

from batch.engines import usable_engines
from batch.engines.versions import engine_and_cpu
from batch.machine.device import choose_device
from bench.bundles import TINY, random_bundle, widened_bundle
from bench.paths import PAGES, RESULTS
from bench.texts import corpus_table
from schemas.markdown import markdown_table

RESULTS_FILE = RESULTS / "scale.json"
PAGE = PAGES / "scale.md"
MAX_TOKENS = 512
"""Tokens read of an article: the maximum of the default encoder."""
LONG_ARTICLES = 1024
STARTS = 5
COMMAND = str(Path(sys.executable).with_name("batch-classify"))


class CorpusResult(BaseModel):
    """Results of a corpus. peak_rss_mb, seconds: of the whole process, start-up included."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rows: int
    seconds: float
    rows_per_s: float
    peak_rss_mb: float


class Results(BaseModel):
    """`bench/results/scale.json`. memory_ratio: of the last two corpora of the tiny encoder."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tiny: tuple[CorpusResult, ...]
    memory_ratio: float
    default_encoder: CorpusResult
    help_s: float
    ten_articles_s: float
    machine: str


@dataclass(frozen=True)
class ProcessResult:
    """Run time and peak memory of a process."""

    seconds: float
    peak_mb: float

    def of_rows(self, rows: int) -> CorpusResult:
        """The result of a corpus of `rows` rows."""
        return CorpusResult(
            rows=rows,
            seconds=round(self.seconds, 2),
            rows_per_s=round(rows / self.seconds, 1),
            peak_rss_mb=round(self.peak_mb, 1),
        )


def measure(arguments: Sequence[str]) -> ProcessResult:
    """Run batch-classify in a separate process.

    The peak is read while the process runs: the one reported by `wait4` would include the memory of
    this process, of which the new one starts as a copy.
    """
    peak_kb = 0
    started = time.perf_counter()
    with subprocess.Popen([COMMAND, *arguments], stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            status = Path(f"/proc/{process.pid}/status").read_text()
            match = re.search(r"VmHWM:\s+(\d+) kB", status)
            if match and COMMAND in Path(f"/proc/{process.pid}/cmdline").read_text():
                peak_kb = int(match[1])
            time.sleep(0.02)
    seconds = time.perf_counter() - started
    if process.returncode != 0:
        raise click.ClickException(f"batch-classify exited with code {process.returncode}")
    return ProcessResult(seconds, peak_kb / 1024)


def score(corpus: Path, bundle: Path, task: str, output: Path) -> ProcessResult:
    """Score a corpus on the CPU."""
    arguments = [str(corpus), "--task", task, "--bundle", str(bundle)]
    return measure([*arguments, "--output", str(output), "--device", "cpu"])


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
    """Measure, write the results and the page."""
    with TemporaryDirectory() as folder:
        tiny = _measure_tiny(bundle, task, rows, Path(folder))
        record = _measure_default(bundle, task, tiny, Path(folder))
    results.parent.mkdir(parents=True, exist_ok=True)
    results.write_text(record.model_dump_json(indent=1) + "\n")
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(render(record))


def _measure_tiny(bundle: Path, task: str, rows: int, work: Path) -> tuple[CorpusResult, ...]:
    """Score up to `rows` short texts with a tiny random encoder."""
    rng = np.random.default_rng(0)
    tiny = random_bundle(bundle, task, work / "tiny", config=TINY)
    results = []
    for count in (rows // 100, rows // 10, rows):
        path = work / f"{count}.parquet"
        pq.write_table(corpus_table("short", count, rng), path, row_group_size=100_000)
        results.append(score(path, tiny, task, work / f"scored-{count}").of_rows(count))
        click.echo(f"tiny encoder: {results[-1]}")
    return tuple(results)


def _measure_default(
    bundle: Path, task: str, tiny: tuple[CorpusResult, ...], work: Path
) -> Results:
    """Score long articles with the default encoder; measure the start-up time."""
    articles = corpus_table("long", LONG_ARTICLES, np.random.default_rng(0))
    long_path, short_path = work / "long.parquet", work / "ten.parquet"
    pq.write_table(articles, long_path)
    pq.write_table(articles.slice(0, 10), short_path)
    widened = widened_bundle(bundle, task, work / "widened", max_tokens=MAX_TOKENS)
    default = score(long_path, widened, task, work / "default").of_rows(LONG_ARTICLES)
    click.echo(f"default encoder, long articles: {default}")
    help_s = median(measure(["--help"]).seconds for _ in range(STARTS))
    ten_articles_s = median(
        score(short_path, widened, task, work / f"ten-{number}").seconds for number in range(STARTS)
    )
    click.echo(f"--help {help_s:.2f} s, ten articles {ten_articles_s:.2f} s")
    return Results(
        tiny=tiny,
        memory_ratio=round(tiny[-1].peak_rss_mb / tiny[-2].peak_rss_mb, 4),
        default_encoder=default,
        help_s=round(help_s, 3),
        ten_articles_s=round(ten_articles_s, 3),
        machine=engine_and_cpu(usable_engines("fp32", choose_device("cpu"))[0]),
    )


def render(results: Results) -> str:
    """The page as Markdown."""
    rows = [("tiny random encoder, 5 to 20 words", result) for result in results.tiny]
    rows.append(
        (f"default encoder, long articles read to {MAX_TOKENS} tokens", results.default_encoder)
    )
    table = markdown_table(
        ["encoder and texts", "rows", "rows/s", "seconds", "peak MB"],
        [
            [
                name,
                f"{result.rows:,}",
                f"{result.rows_per_s:,.0f}",
                f"{result.seconds:,.1f}",
                f"{result.peak_rss_mb:,.0f}",
            ]
            for name, result in rows
        ],
    )
    return (
        "# Scale of `batch-classify`\n\n"
        "`make bench-scale` wrote this page. Whole processes on a CPU, start-up included; memory "
        f"is the peak resident memory.\n\n{table}\n"
        f"Ten times the rows, from {results.tiny[-2].rows:,} on, need {results.memory_ratio:.3f} "
        f"times the memory.\n\n`batch-classify --help` takes {results.help_s:.2f} s; ten articles "
        f"with the default encoder take {results.ten_articles_s:.2f} s from the command to the "
        f"report (medians of {STARTS}).\n"
    )


if __name__ == "__main__":
    main()
