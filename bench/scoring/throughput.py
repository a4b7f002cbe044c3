"""Speed of scoring, from texts to probabilities, against what people use otherwise: `make bench`.

Every precision of a bundle, `transformers.pipeline` and torch with sorted texts, each in a process
of its own, take turns on the same texts. Lengths are those of news and of long articles; the words
are those of `samples/`. Figures are medians over the rounds. Writes bench/results/throughput.json
and docs/benchmarks/throughput.md.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import click
import numpy as np
import polars as pl

from batch.engines.graph_file import GraphFile
from batch.machine.device import choose_device
from batch.scoring.precision import precision_problem
from batch.scoring.scorer import load_tokenizer
from bench.bundles import widened_bundle
from bench.corpora import long_corpus, news_corpus
from bench.paths import PAGES, RESULTS
from bench.peers import peer_model
from bench.scoring.backend import MAX_TOKENS
from bench.scoring.backend_process import Contender, Corpus
from bench.scoring.machine import Machine, forward_mflops
from bench.scoring.throughput_page import Results, Variant, write_page
from exporter.bundle.inspection import metadata_of
from schemas.bundle.folder import Bundle
from schemas.bundle.metadata import ArtefactMetadata
from schemas.bundle.variants import Precision
from schemas.text.model_text import ModelText
from schemas.text.tokens import TextTokenizer

PEERS = ("pipeline", "torch-sorted")
CORPORA = {"news": news_corpus, "long": long_corpus}
WARM_UP_TEXTS = 256


@click.command(help=__doc__)
@click.option(
    "--bundle",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    default=Path("artifacts/reuters/bundle"),
    show_default=True,
    help="A bundle of a model that was really trained, as `make reuters` leaves it.",
)
@click.option("--task", default="topics", show_default=True)
@click.option("--rounds", default=3, show_default=True)
@click.option("--texts", default=4096, show_default=True, help="News texts; half as many long.")
@click.option("--peer-texts", default=384, show_default=True, help="Of them, for the slow peers.")
@click.option("--results", type=click.Path(path_type=Path), default=RESULTS / "throughput.json")
@click.option("--page", type=click.Path(path_type=Path), default=PAGES / "throughput.md")
def main(
    bundle: Path, task: str, rounds: int, texts: int, peer_texts: int, results: Path, page: Path
) -> None:
    """Measure, and write down."""
    opened = Bundle.open(bundle)
    cpu = choose_device("cpu")
    precisions = [each for each in opened.precisions(task) if not precision_problem(each, cpu)]
    facts = {each: _facts(opened, task, each) for each in precisions}
    with TemporaryDirectory() as folder:
        work = Path(folder)
        wide = widened_bundle(bundle, task, work / "wide", max_tokens=MAX_TOKENS)
        peer = peer_model(facts["fp32"], work / "peer")
        corpora = [_corpus(name, work, wide, texts) for name in CORPORA]
        click.echo("measuring the peaks of this machine")
        machine = Machine.measure()
        found: dict[str, dict[str, Variant]] = {}
        for corpus in corpora:
            models = dict.fromkeys(PEERS, peer) | dict.fromkeys(precisions, wide)
            rows = {way: peer_texts if way in PEERS else len(corpus.lengths) for way in models}
            speeds, peaks = _take_turns(corpus, models, rows, task, rounds=rounds)
            mflops = forward_mflops(facts["fp32"], corpus.lengths)
            found[corpus.name] = {
                way: Variant.of(
                    speeds,
                    way,
                    peak_rss_mb=peaks[way],
                    share_of_peak=median(speeds[way]) * mflops / 1e3 / machine.peak_of(way),
                    cost=facts[way].cost if way in facts else None,
                )
                for way in models
            }
    record = Results(
        news=found["news"],
        long=found["long"],
        machine=machine,
        model=f"{facts['fp32'].encoder.source}, {facts['fp32'].encoder.parameters / 1e6:.0f} M "
        f"parameters, task {task}, {len(facts['fp32'].labels)} labels",
        texts={corpus.name: len(corpus.lengths) for corpus in corpora},
        mean_tokens={corpus.name: round(np.mean(corpus.lengths)) for corpus in corpora},
        rounds=rounds,
    )
    results.parent.mkdir(parents=True, exist_ok=True)
    results.write_text(record.model_dump_json(indent=1) + "\n", encoding="utf-8")
    write_page(record, page)
    click.echo(f"{results}; {page}")


def _facts(bundle: Bundle, task: str, precision: Precision) -> ArtefactMetadata:
    graph = GraphFile.of_bundle(bundle, task, precision)
    return metadata_of(graph, task).at(precision)


def _corpus(name: str, work: Path, bundle: Path, texts: int) -> Corpus:
    rows = texts if name == "news" else texts // 2
    frame: pl.DataFrame = CORPORA[name](rows, np.random.default_rng(0))
    path = work / f"{name}.parquet"
    frame.write_parquet(path)
    content = Bundle.open(bundle).read_tokenizer()
    tokenizer = TextTokenizer(load_tokenizer(content, str(bundle)), max_tokens=MAX_TOKENS)
    encoded = tokenizer.encode([ModelText(text, cut=False) for text in frame["text"]])
    return Corpus(name, path, tuple(len(text.ids) for text in encoded))


def _take_turns(
    corpus: Corpus,
    models: dict[str, Path],
    rows: dict[str, int],
    task: str,
    *,
    rounds: int,
) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Tokens a second of each way in each round, and its peak memory."""
    speeds: dict[str, list[float]] = {way: [] for way in models}
    peaks: dict[str, float] = {}
    with ExitStack() as stack:
        ways = [stack.enter_context(Contender(way, model, task)) for way, model in models.items()]
        for way in ways:
            way.score(corpus, min(WARM_UP_TEXTS, rows[way.way]))
        for number in range(rounds):
            for way in ways:
                speed, peaks[way.way] = way.score(corpus, rows[way.way])
                speeds[way.way].append(speed)
                click.echo(
                    f"{corpus.name}, round {number + 1}, {way.way}: {speed:,.0f} tokens/s, "
                    f"{peaks[way.way]:,.0f} MB"
                )
    return speeds, peaks


if __name__ == "__main__":
    main()
