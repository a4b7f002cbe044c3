"""Throughput of scoring on a CPU, from texts to probabilities: `make bench`.

Every precision of a bundle, `transformers.pipeline` and torch with sorted texts run in separate
processes, which take turns on the same texts. Lengths are those of news and of long articles, the
words those of `samples/`. Results are medians over the rounds. Writes bench/results/throughput.json
and docs/benchmarks/throughput.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import click
import numpy as np
import pyarrow.parquet as pq

from batch.engines.graph_file import GraphFile
from batch.machine.device import choose_device
from batch.scoring.precision import precision_problem
from bench.bundles import widened_bundle
from bench.flops import forward_mflops_per_token
from bench.paths import PAGES, RESULTS
from bench.peers import peer_model
from bench.scoring.backend import MAX_TOKENS
from bench.scoring.backend_process import BackendProcess, Corpus
from bench.scoring.machine import Machine
from bench.scoring.throughput_page import BackendResult, Results, write_page
from bench.texts import corpus_table
from exporter.bundle.inspection import metadata_of
from schemas.bundle.folder import Bundle
from schemas.bundle.metadata import ArtefactMetadata
from schemas.bundle.variants import Precision

PEERS = ("pipeline", "torch-sorted")
CORPORA = ("news", "long")
WARM_UP_TEXTS = 256


@dataclass(frozen=True)
class Backend:
    """A backend to measure. texts: rows of a corpus that it scores; None for all."""

    name: str
    model: Path
    texts: int | None = None

    def rows(self, corpus: Corpus) -> int:
        """Number of texts that it scores."""
        return len(corpus.lengths) if self.texts is None else self.texts


@click.command(help=__doc__)
@click.option(
    "--bundle",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    default=Path("artifacts/reuters/bundle"),
    show_default=True,
    help="Bundle of a trained model, as written by `make reuters`.",
)
@click.option("--task", default="topics", show_default=True)
@click.option("--rounds", default=3, show_default=True)
@click.option("--texts", default=4096, show_default=True, help="News; half as many long ones.")
@click.option("--peer-texts", default=384, show_default=True, help="Texts for the slow peers.")
@click.option("--results", type=click.Path(path_type=Path), default=RESULTS / "throughput.json")
@click.option("--page", type=click.Path(path_type=Path), default=PAGES / "throughput.md")
def main(
    bundle: Path, task: str, rounds: int, texts: int, peer_texts: int, results: Path, page: Path
) -> None:
    """Measure, write the results and the page."""
    source, cpu = Bundle.open(bundle), choose_device("cpu")
    metadata = {
        precision: _metadata(source, task, precision)
        for precision in source.precisions((task,))
        if not precision_problem(precision, cpu)
    }
    with TemporaryDirectory() as folder:
        work = Path(folder)
        widened = widened_bundle(bundle, task, work / "widened", max_tokens=MAX_TOKENS)
        peer = peer_model(metadata["fp32"], work / "peer")
        corpora = [_write_corpus(name, work, widened, texts) for name in CORPORA]
        backends = [Backend(name, peer, peer_texts) for name in PEERS]
        backends += [Backend(precision, widened) for precision in metadata]
        click.echo("measuring the peaks of this machine")
        machine = Machine.measure()
        by_corpus = {
            corpus.name: _measure(corpus, backends, metadata, task, machine, rounds=rounds)
            for corpus in corpora
        }
    encoder = metadata["fp32"].encoder
    record = Results(
        news=by_corpus["news"],
        long=by_corpus["long"],
        machine=machine,
        model=f"{encoder.source}, {encoder.parameters / 1e6:.0f} M parameters, task {task}, "
        f"{len(metadata['fp32'].labels)} labels",
        texts={corpus.name: len(corpus.lengths) for corpus in corpora},
        mean_tokens={corpus.name: round(np.mean(corpus.lengths)) for corpus in corpora},
        rounds=rounds,
    )
    results.parent.mkdir(parents=True, exist_ok=True)
    results.write_text(record.model_dump_json(indent=1) + "\n", encoding="utf-8")
    write_page(record, page)
    click.echo(f"{results}; {page}")


def _metadata(bundle: Bundle, task: str, precision: Precision) -> ArtefactMetadata:
    graph = GraphFile.of_bundle(bundle, (task,), precision)
    return metadata_of(graph, task).at(precision)


def _write_corpus(name: str, work: Path, bundle: Path, texts: int) -> Corpus:
    path = work / f"{name}.parquet"
    rows = texts if name == "news" else texts // 2
    pq.write_table(corpus_table(name, rows, np.random.default_rng(0)), path)
    return Corpus.read(name, path, bundle, max_tokens=MAX_TOKENS)


def _measure(
    corpus: Corpus,
    backends: list[Backend],
    metadata: Mapping[Precision, ArtefactMetadata],
    task: str,
    machine: Machine,
    *,
    rounds: int,
) -> dict[str, BackendResult]:
    """Results of all backends on a corpus, by their names."""
    speeds, peaks = _take_turns(corpus, backends, task, rounds=rounds)
    mflops = forward_mflops_per_token(metadata["fp32"], corpus.lengths)
    costs = {str(precision): facts.cost for precision, facts in metadata.items()}
    return {
        backend.name: BackendResult.of(
            speeds,
            backend.name,
            peak_rss_mb=peaks[backend.name],
            share_of_peak=median(speeds[backend.name])
            * mflops
            / 1e3
            / machine.peak_of(backend.name),
            cost=costs.get(backend.name),
        )
        for backend in backends
    }


def _take_turns(
    corpus: Corpus, backends: list[Backend], task: str, *, rounds: int
) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Tokens/s of every backend in every round, and its peak memory in MB."""
    rows = {backend.name: backend.rows(corpus) for backend in backends}
    speeds: dict[str, list[float]] = {name: [] for name in rows}
    peaks: dict[str, float] = {}
    with ExitStack() as stack:
        processes = [
            stack.enter_context(BackendProcess(backend.name, backend.model, task))
            for backend in backends
        ]
        for process in processes:
            process.score(corpus, min(WARM_UP_TEXTS, rows[process.name]))
        for number in range(rounds):
            for process in processes:
                speed, peaks[process.name] = process.score(corpus, rows[process.name])
                speeds[process.name].append(speed)
                click.echo(
                    f"{corpus.name}, round {number + 1}, {process.name}: {speed:,.0f} tokens/s, "
                    f"{peaks[process.name]:,.0f} MB"
                )
    return speeds, peaks


if __name__ == "__main__":
    main()
