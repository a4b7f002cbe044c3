"""Checks and benchmarks on an NVIDIA GPU.

Every command adds its results to one file, step by step, so that an interrupted run loses nothing
that was measured; `page` writes docs/benchmarks/gpu.md from that file. bench/gpu/unattended.sh runs
everything.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import click
import numpy as np
import pyarrow.parquet as pq

from batch.engines.graph_file import GraphFile
from batch.machine.device import choose_device, cuda_problem
from batch.scoring.scorer import open_scorer
from bench.bundles import BASE, random_bundle, widened_bundle
from bench.gpu import checks, kernels, launches, speed
from bench.gpu.machine import describe_machine
from bench.gpu.page import PAGE, write_page
from bench.gpu.steps import Steps
from bench.paths import RESULTS
from bench.peers import peer_model as make_peer
from bench.peers import random_peer
from bench.scoring.backend import MAX_TOKENS
from bench.scoring.backend_process import Corpus
from bench.texts import corpus_table
from exporter.bundle.inspection import metadata_of
from schemas.bundle.folder import Bundle
from schemas.bundle.variants import DeviceKind, Precision

RESULTS_FILE = RESULTS / "gpu.json"
ROWS = {"news": 32_768, "long": 16_384}
PEER_ROWS = 2_048
TIMEOUT_S = 300.0

shared_options = (
    click.option("--bundle", type=click.Path(path_type=Path, exists=True), required=True),
    click.option("--task", default="topics", show_default=True),
    click.option("--work", type=click.Path(path_type=Path), default=Path("artifacts/bench-gpu")),
    click.option("--results", type=click.Path(path_type=Path), default=RESULTS_FILE),
    click.option(
        "--device",
        type=click.Choice(["cuda", "cpu"]),
        default="cuda",
        show_default=True,
        help="cpu tests the scripts on a machine without a GPU.",
    ),
)


def measured(function: Callable[..., None]) -> Callable[..., None]:
    """Add the options that all measuring commands share."""
    for option in reversed(shared_options):
        function = option(function)
    return function


@click.group(help=__doc__)
def main() -> None:
    """Checks and benchmarks on an NVIDIA GPU."""


@main.command("checks")
@measured
@click.option(
    "--corpus",
    type=click.Path(path_type=Path, exists=True),
    help="Parquet with article_id and text.  [default: generated from words of the samples]",
)
def check(
    bundle: Path, task: str, work: Path, results: Path, device: DeviceKind, corpus: Path | None
) -> None:
    """Check scores against a CPU, bit-identical repetition, clear errors, resumed runs."""
    steps = _steps(results, device)
    corpus = corpus or _corpus(work, "news", _rows(device)["news"] // 8)
    checks.run_checks(checks.Subject(bundle, task, corpus, work / "checks", device), steps)
    _exit(steps)


@main.command("speed")
@measured
@click.option(
    "--peer-model",
    type=click.Path(path_type=Path, exists=True),
    help="A transformers classifier.  [default: made from the encoder of the bundle]",
)
@click.option("--rounds", default=3, show_default=True)
@click.option("--name", default="", help="Name of the encoder, if several are compared.")
@click.option("--fp32/--no-fp32", default=True, help="Measure narrascan in fp32 too.")
def compare(
    bundle: Path,
    task: str,
    work: Path,
    results: Path,
    device: DeviceKind,
    peer_model: Path | None,
    rounds: int,
    name: str,
    fp32: bool,
) -> None:
    """Compare articles/s with transformers.pipeline and sentence-transformers, all in fp16."""
    steps = _steps(results, device)
    bundle = _widened(bundle, task, work)
    peer = peer_model or _peer(bundle, task, work / "peer")
    for length, rows in _rows(device).items():
        corpus = _tokenized(bundle, work, length, rows)
        models = dict.fromkeys(speed.PEERS, peer)
        counts = dict.fromkeys(speed.PEERS, min(PEER_ROWS, rows))
        for precision in checks.precisions(device):
            if fp32 or precision != "fp32":
                models[precision], counts[precision] = bundle, rows
        steps.run(
            _joined("speed", name, length),
            partial(
                speed.compare,
                corpus,
                models,
                counts,
                task,
                device=device,
                rounds=rounds,
            ),
        )
    _exit(steps)


@main.command("kernels")
@measured
@click.option("--name", default="", help="Name of the encoder, if several are compared.")
@click.option("--precision", type=click.Choice(["fp16", "fp32"]), default="fp16")
@click.option("--sweep/--no-sweep", default=True, help="Measure batch sizes too.")
@click.option(
    "--length",
    "lengths",
    multiple=True,
    type=click.Choice(list(ROWS)),
    default=list(ROWS),
    show_default=True,
    help="Texts to measure.",
)
def profile(
    bundle: Path,
    task: str,
    work: Path,
    results: Path,
    device: DeviceKind,
    name: str,
    precision: Precision,
    sweep: bool,
    lengths: tuple[str, ...],
) -> None:
    """Measure the tokenizer alone, batch sizes, and the kernels that run."""
    steps = _steps(results, device)
    chosen = choose_device(device)
    opened = Bundle.open(_widened(bundle, task, work))
    for length in lengths:
        corpus = _corpus(work, length, _rows(device)[length])
        scorer = open_scorer(opened, (task,), chosen, precision=precision)
        texts = kernels.read_texts(corpus, scorer)
        steps.run(
            _joined("tokenizer", length), partial(kernels.tokenizer_speed, scorer.runner, texts)
        )
        tokenized = scorer.runner.tokenize(texts)
        if device == "cuda":
            steps.run(
                _joined("kernels", name, precision, length),
                partial(kernels.kernel_times, scorer.runner, tokenized),
            )
        if sweep:
            steps.run(
                _joined("batch sizes", name, precision, length),
                partial(kernels.batch_sizes, opened, task, chosen, precision, corpus),
            )
    _exit(steps)


@main.command("launches")
@measured
@click.option("--name", default="", help="Name of the encoder, if several are compared.")
@click.option("--precision", type=click.Choice(["fp16", "fp32"]), default="fp16")
def launch(
    bundle: Path,
    task: str,
    work: Path,
    results: Path,
    device: DeviceKind,
    name: str,
    precision: Precision,
) -> None:
    """Measure batches by shape: alone, queued one behind the other, and as a CUDA graph."""
    steps = _steps(results, device)
    graph = GraphFile.of_bundle(Bundle.open(_widened(bundle, task, work)), (task,), precision)
    steps.run(
        _joined("launches", name, precision),
        partial(launches.launch_times, graph, choose_device(device)),
    )
    _exit(steps)


@main.command("whole")
@measured
@click.option("--rows", default=200_000, show_default=True)
@click.option("--name", default="", help="Name of the encoder, if several are compared.")
@click.option("--option", "options", multiple=True, help="Option passed to batch-classify.")
@click.option(
    "--processes", default=1, show_default=True, help="Number of shards that run at the same time."
)
def whole(
    bundle: Path,
    task: str,
    work: Path,
    results: Path,
    device: DeviceKind,
    rows: int,
    name: str,
    options: tuple[str, ...],
    processes: int,
) -> None:
    """Measure whole runs of batch-classify on one GPU: rows/s, GPU utilization, memory."""
    steps = _steps(results, device)
    corpus = _corpus(work, "news", rows)
    bundle = _widened(bundle, task, work)
    outputs = [work / f"whole-{number}" for number in range(processes)]
    shards: list[tuple[str, ...]] = [
        () if processes == 1 else ("--shard", f"{number + 1}/{processes}")
        for number in range(processes)
    ]
    commands = [
        speed.classify(bundle, task, corpus, output, device, *options, *shard)
        for output, shard in zip(outputs, shards, strict=True)
    ]
    steps.run(
        _joined("whole run", name, f"x{processes}", *options),
        partial(speed.side_by_side, commands, outputs, TIMEOUT_S),
    )
    for output in outputs:
        shutil.rmtree(output, ignore_errors=True)
    _exit(steps)


@main.command("larger")
@click.option("--bundle", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--task", default="topics", show_default=True)
@click.option("--output", type=click.Path(path_type=Path), required=True)
def larger(bundle: Path, task: str, output: Path) -> None:
    """Make OUTPUT/bundle and OUTPUT/peer with random weights and the size of BERT-base."""
    random_bundle(bundle, task, output / "bundle", config=BASE, precisions=("fp16", "fp32"))
    random_peer(bundle, output / "peer", config=BASE)


@main.command("page")
@click.option("--results", type=click.Path(path_type=Path), default=RESULTS_FILE)
@click.option("--page", "path", type=click.Path(path_type=Path), default=PAGE)
def write(results: Path, path: Path) -> None:
    """Write docs/benchmarks/gpu.md."""
    write_page(results, path)
    click.echo(str(path))


def _steps(results: Path, device: DeviceKind) -> Steps:
    problem = cuda_problem() if device == "cuda" else None
    if problem is not None:
        raise click.ClickException(f"this benchmark needs CUDA: {problem}")
    steps = Steps(results)
    steps.run("machine", partial(describe_machine, device))
    return steps


def _joined(*words: str) -> str:
    """Name of a step: its non-empty words."""
    return " ".join(word for word in words if word)


def _rows(device: DeviceKind) -> dict[str, int]:
    """Number of texts by corpus; few on a CPU, where only the scripts are tested."""
    return ROWS if device == "cuda" else {name: rows // 128 for name, rows in ROWS.items()}


def _corpus(work: Path, name: str, rows: int) -> Path:
    path = work / f"{name}-{rows}.parquet"
    if not path.exists():
        work.mkdir(parents=True, exist_ok=True)
        pq.write_table(corpus_table(name, rows, np.random.default_rng(0)), path)
    return path


def _widened(bundle: Path, task: str, work: Path) -> Path:
    """The bundle with the same maximum length as the peers."""
    folder = work / f"widened-{bundle.name}-{task}"
    if folder.exists():
        return folder
    return widened_bundle(bundle, task, folder, max_tokens=MAX_TOKENS)


def _peer(bundle: Path, task: str, folder: Path) -> Path:
    graph = GraphFile.of_bundle(Bundle.open(bundle), (task,), "fp32")
    return folder if folder.exists() else make_peer(metadata_of(graph, task), folder)


def _tokenized(bundle: Path, work: Path, name: str, rows: int) -> Corpus:
    return Corpus.read(name, _corpus(work, name, rows), bundle, max_tokens=MAX_TOKENS)


def _exit(steps: Steps) -> None:
    if steps.failed:
        click.echo(f"failed: {', '.join(steps.failed)}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
