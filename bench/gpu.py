"""Articles a second on CUDA: the scorer of batch-classify against transformers.pipeline.

NOT YET RUN: no GPU was at hand. Without CUDA it says so and ends with exit code 1.

Both sides run the bundle's encoder type and tokenizer in fp32 and in fp16 over the same texts, from
strings to probabilities, in turns within one process; the pipeline's weights are random, which does
not slow it down. Writes bench/results/gpu.json and docs/benchmarks/gpu.md.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import TypedDict

import click
import numpy as np

from batch.device import Device, choose_device, cuda_problem
from batch.scorer import Scorer, open_scorer
from schemas.bundle import Bundle
from schemas.errors import NarrascanError
from schemas.text import Article, model_text
from schemas.variants import Precision

RESULTS = Path(__file__).parent / "results" / "gpu.json"
PAGE = Path(__file__).parents[1] / "docs" / "benchmarks" / "gpu.md"
PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16")

Contender = Callable[[list[str]], object]
"""Scores every text; what it returns is not looked at."""


class Record(TypedDict):
    """What a run found: articles a second by contender, the median of the rounds."""

    gpu: str
    versions: dict[str, str]
    articles: int
    rounds: int
    batch_size: int
    articles_per_s: dict[str, float]


def interleave(
    contenders: Mapping[str, Contender],
    texts: list[str],
    *,
    rounds: int,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, float]:
    """Articles a second of each, the median of rounds in which all have a turn.

    A first round is not counted: shapes are allocated and kernels loaded in it.
    """
    speeds: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds + 1):
        for name, score in contenders.items():
            started = clock()
            score(texts)
            seconds = clock() - started
            if number:
                speeds[name].append(len(texts) / seconds)
    return {name: median(found) for name, found in speeds.items()}


def ours(scorer: Scorer) -> Contender:
    """The scorer that batch-classify runs, without reading and writing."""
    spec, max_tokens = scorer.metadata.text, scorer.metadata.max_tokens

    def score(texts: list[str]) -> object:
        articles = [Article(text=text, start=0, end=1) for text in texts]
        return scorer.score([model_text(one, spec, max_tokens=max_tokens) for one in articles])

    return score


def theirs(
    scorer: Scorer, checkpoint: Path, tokenizer_file: Path, device: Device, batch_size: int
) -> Contender:
    """A text-classification pipeline over an encoder of the same configuration.

    scorer: whose precision, labels and longest text the pipeline shares.
    """
    import torch
    from transformers import (
        AutoConfig,
        AutoModelForSequenceClassification,
        PreTrainedTokenizerFast,
        pipeline,
    )

    config = AutoConfig.from_pretrained(checkpoint, trust_remote_code=False)
    config.num_labels = len(scorer.metadata.labels)
    dtype = torch.float16 if scorer.metadata.precision == "fp16" else torch.float32
    model = AutoModelForSequenceClassification.from_config(config, trust_remote_code=False)
    model = model.eval().to(device.name, dtype)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(tokenizer_file), model_input_names=["input_ids", "attention_mask"]
    )
    tokenizer.pad_token = tokenizer.convert_ids_to_tokens(scorer.metadata.pad_id)
    classify = pipeline(
        "text-classification",
        model=model,
        tokenizer=tokenizer,
        device=device.name,
        batch_size=batch_size,
        top_k=None,
        function_to_apply="sigmoid",
    )
    limit = scorer.metadata.max_tokens
    return lambda texts: classify(texts, truncation=True, max_length=limit)


def page(record: Record | None) -> str:
    """What docs/benchmarks/gpu.md says; None before anyone has run it."""
    title = "# Articles a second on CUDA"
    if record is None:
        return "\n".join(
            [
                title,
                "",
                "**Not yet run**: no GPU was at hand. Whoever has one: export with",
                "`export-classifier CHECKPOINT --precision fp16`; `make bench-gpu` then writes",
                "this page.",
                "",
            ]
        )
    speeds = record["articles_per_s"]
    base = speeds["transformers.pipeline fp16"]
    versions = ", ".join(f"{name} {number}" for name, number in record["versions"].items())
    rows = [f"| {name} | {speed:,.0f} | {speed / base:.2f} |" for name, speed in speeds.items()]
    return "\n".join(
        [
            title,
            "",
            f"{record['gpu']}; {versions}. {record['articles']:,} articles (log-normal lengths, "
            f"median 346 words), from strings to probabilities, median of {record['rounds']} "
            "rounds in turns, made by `make bench-gpu`; the pipeline in batches of "
            f"{record['batch_size']}.",
            "",
            "| contender | articles/s | against the pipeline in fp16 |",
            "| --- | ---: | ---: |",
            *rows,
            "",
        ]
    )


def run(bundle: Bundle, checkpoint: Path, task: str, rows: int, rounds: int, size: int) -> Record:
    """Measure all four."""
    import onnxruntime
    import torch
    import transformers

    from bench.corpora import long_corpus

    if not torch.cuda.is_available():
        raise click.ClickException("torch has no CUDA here; transformers.pipeline needs it")
    texts = long_corpus(rows, np.random.default_rng(0))["text"].to_list()
    device, contenders = choose_device("cuda"), dict[str, Contender]()
    for each in PRECISIONS:
        scorer = open_scorer(bundle, task, device, precision=each)
        pipeline = theirs(scorer, checkpoint, bundle.files.tokenizer, device, size)
        contenders |= {f"narrascan {each}": ours(scorer), f"transformers.pipeline {each}": pipeline}
    return Record(
        gpu=torch.cuda.get_device_name(0),
        versions={
            each.__name__: str(each.__version__) for each in (onnxruntime, torch, transformers)
        },
        articles=rows,
        rounds=rounds,
        batch_size=size,
        articles_per_s=interleave(contenders, texts, rounds=rounds),
    )


@click.command(help=__doc__)
@click.option("--bundle", type=click.Path(path_type=Path), default=Path("artifacts/bundle"))
@click.option("--checkpoint", type=click.Path(path_type=Path), default=Path("artifacts/checkpoint"))
@click.option("--task", default="narrative", show_default=True)
@click.option("--rows", default=4096, show_default=True, help="Articles.")
@click.option("--rounds", default=5, show_default=True)
@click.option("--batch-size", default=64, show_default=True, help="Of the pipeline.")
def main(
    bundle: Path, checkpoint: Path, task: str, rows: int, rounds: int, batch_size: int
) -> None:
    """Measure and write down."""
    problem = cuda_problem()
    if problem is not None:
        raise click.ClickException(f"this benchmark needs CUDA: {problem}")
    try:
        record = run(Bundle.open(bundle), checkpoint, task, rows, rounds, batch_size)
    except NarrascanError as error:
        raise click.ClickException(str(error)) from error
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    PAGE.write_text(page(record), encoding="utf-8")
    click.echo(page(record))


if __name__ == "__main__":
    main()
