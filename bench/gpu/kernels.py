"""Time on a GPU: tokens/s by batch size, and the kernels that run.

Texts are tokenized beforehand: only packing, copying and running are measured.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from statistics import median

import pyarrow.parquet as pq

from batch.machine.device import Device
from batch.scoring.runner import GraphRunner
from batch.scoring.scorer import Scorer, open_scorer
from bench.gpu.steps import Facts
from schemas.bundle.folder import Bundle
from schemas.bundle.variants import Precision
from schemas.text.model_text import Article, ModelText, model_text
from schemas.text.tokens import TokenizedText

BATCH_TOKENS = (8192, 16384, 32768, 65536)
CHUNK_ROWS = (4096, 16384)
ROUNDS = 2
SHOWN_KERNELS = 12
MOST_TEXTS = 16384


def read_texts(corpus: Path, scorer: Scorer) -> list[ModelText]:
    """The first texts of a corpus as model input."""
    spec, max_tokens = scorer.metadata.text, scorer.metadata.max_tokens
    texts = pq.read_table(corpus, columns=["text"])["text"].to_pylist()[:MOST_TEXTS]
    return [model_text(Article(text), spec, max_tokens=max_tokens) for text in texts]


def median_seconds(function: Callable[[], object], rounds: int = ROUNDS) -> float:
    """Median wall time of several rounds after a warm-up, which allocates memory for the shapes."""
    seconds = []
    for _ in range(rounds + 1):
        started = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - started)
    return median(seconds[1:])


def tokenizer_speed(runner: GraphRunner, texts: Sequence[ModelText]) -> Facts:
    """Articles/s and tokens/s of the tokenizer alone, on every core.

    first: of texts whose words it has not seen; the other rates are of texts that it has.
    """
    started = time.perf_counter()
    tokens = sum(len(text.ids) for text in runner.tokenize(texts))
    first = time.perf_counter() - started
    seconds = median_seconds(lambda: runner.tokenize(texts))
    return {
        "first_articles_per_s": round(len(texts) / first),
        "articles_per_s": round(len(texts) / seconds),
        "tokens_per_s": round(tokens / seconds),
        "mean_tokens": round(tokens / len(texts), 1),
    }


def batch_sizes(
    bundle: Bundle, task: str, device: Device, precision: Precision, corpus: Path
) -> Facts:
    """Tokens/s by tokens per batch and rows per chunk."""
    speeds = {}
    for batch_tokens in BATCH_TOKENS:
        scorer = open_scorer(
            bundle, (task,), device, precision=precision, tokens_per_batch=batch_tokens
        )
        texts = scorer.runner.tokenize(read_texts(corpus, scorer))
        tokens = sum(len(text.ids) for text in texts)
        for rows in CHUNK_ROWS:
            chunks = [texts[first : first + rows] for first in range(0, len(texts), rows)]

            def score(
                chunks: Iterable[list[TokenizedText]] = chunks, scorer: Scorer = scorer
            ) -> None:
                for chunk in chunks:
                    scorer.runner.outputs(chunk)

            speeds[f"{batch_tokens} tokens, {rows} rows"] = round(tokens / median_seconds(score))
    return {"tokens_per_s": speeds}


def kernel_times(runner: GraphRunner, texts: Sequence[TokenizedText]) -> Facts:
    """Share of the time in which the GPU is busy, and the kernels that take most of it.

    Recorded by CUPTI for the whole process, kernels of onnxruntime included; torch's profiler
    enables it. Recording slows the host down, so the time is that of another run without it.
    """
    import torch
    from torch.profiler import ProfilerActivity, profile

    seconds = median_seconds(lambda: runner.outputs(texts))
    torch.cuda.init()  # type: ignore[no-untyped-call]
    with profile(activities=[ProfilerActivity.CUDA]) as recorded:
        runner.outputs(texts)
    spans, by_name = [], defaultdict[str, float](float)
    copies = 0.0
    for event in recorded.profiler.kineto_results.events():
        if "CUDA" not in str(event.device_type()) or event.duration_ns() <= 0:
            continue
        spans.append((event.start_ns(), event.start_ns() + event.duration_ns()))
        by_name[event.name()[:90]] += event.duration_ns() / 1e9
        if event.name().startswith(("Memcpy", "Memset")):
            copies += event.duration_ns() / 1e9
    busy = busy_seconds(spans)
    top = sorted(by_name.items(), key=lambda item: -item[1])[:SHOWN_KERNELS]
    return {
        "seconds_of_run": round(seconds, 4),
        "busy_share": round(busy / seconds, 3),
        "copies_share": round(copies / seconds, 4),
        "events": len(spans),
        "kernels_ms": {name: round(1e3 * spent, 2) for name, spent in top},
        "all_kernels_ms": round(1e3 * sum(by_name.values()), 1),
    }


def busy_seconds(spans: Iterable[tuple[int, int]]) -> float:
    """Seconds covered by spans of nanoseconds; overlaps count once."""
    covered, end = 0, 0
    for first, last in sorted(spans):
        covered += max(0, last - max(first, end))
        end = max(end, last)
    return covered / 1e9
