"""Articles/s on a GPU: the scorer of batch-classify compared with other libraries."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import mean, median

import pyarrow.parquet as pq

from bench.gpu.steps import Facts
from bench.scoring.backend_process import BackendProcess, Corpus
from schemas.bundle.variants import DeviceKind

PEERS = ("pipeline", "sentence-transformers")
BASE = "pipeline"
WARM_UP_TEXTS = 512
SAMPLE_MS = 200


def compare(
    corpus: Corpus,
    models: Mapping[str, Path],
    rows: Mapping[str, int],
    task: str,
    *,
    device: DeviceKind,
    rounds: int,
) -> Facts:
    """Articles/s of every backend, in turns on the same texts.

    models: bundle or transformers model of every backend, by its name. rows: number of texts.
    """
    speeds: dict[str, list[float]] = {name: [] for name in models}
    with ExitStack() as stack:
        backends = [
            stack.enter_context(BackendProcess(name, model, task, device=device))
            for name, model in models.items()
        ]
        for backend in backends:
            for _ in range(1 if backend.name in PEERS else 2):  # memory for the shapes is allocated
                backend.score(corpus, min(WARM_UP_TEXTS, rows[backend.name]))
            if backend.name not in PEERS:
                backend.score(corpus, rows[backend.name])
        for _ in range(rounds):
            for backend in backends:
                count = rows[backend.name]
                tokens_per_s, _ = backend.score(corpus, count)
                speeds[backend.name].append(tokens_per_s * count / sum(corpus.lengths[:count]))
    articles = {name: round(median(rates)) for name, rates in speeds.items()}
    ratios = {
        name: round(median(a / b for a, b in zip(rates, speeds[BASE], strict=True)), 2)
        for name, rates in speeds.items()
    }
    mean_tokens = mean(corpus.lengths)
    return {
        "articles_per_s": articles,
        "tokens_per_s": {name: round(speed * mean_tokens) for name, speed in articles.items()},
        "against_pipeline": ratios,
        "texts": dict(rows),
        "mean_tokens": round(mean_tokens),
        "rounds": rounds,
    }


def side_by_side(
    commands: Sequence[Sequence[str]], outputs: Sequence[Path], timeout_s: float
) -> Facts:
    """Runs that share a GPU: total rows/s, GPU utilization and memory."""
    query = ["nvidia-smi", "--query-gpu=utilization.gpu,memory.used"]
    query += ["--format=csv,noheader,nounits", f"--loop-ms={SAMPLE_MS}"]
    if shutil.which(query[0]) is None:
        query = ["sleep", "inf"]
    with subprocess.Popen(query, stdout=subprocess.PIPE, text=True) as sampler:
        started = time.monotonic()
        running = [
            subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
            for command in commands
        ]
        errors = [process.communicate(timeout=timeout_s)[1] for process in running]
        seconds = time.monotonic() - started
        sampler.terminate()
        assert sampler.stdout is not None
        lines = sampler.stdout.read().splitlines()
    for process, error in zip(running, errors, strict=True):
        assert process.returncode == 0, error[-2000:]
    rows = sum(
        pq.ParquetFile(part).metadata.num_rows
        for output in outputs
        for part in (output / "predictions").glob("*.parquet")
    )
    samples = [tuple(map(int, line.split(","))) for line in lines if line.strip()]
    facts: dict[str, object] = {
        "rows": rows,
        "wall_s": round(seconds, 2),
        "articles_per_s": round(rows / seconds),
        "gpu_use_mean": round(gpu_use([use for use, _ in samples]), 2),
        "gpu_memory_mb": max((memory for _, memory in samples), default=0),
        "series": samples,
    }
    timings = [_timings(output) for output in outputs if (output / "run.json").exists()]
    if timings:
        facts["timings"] = timings
    return facts


def gpu_use(samples: Sequence[int]) -> float:
    """Mean utilization of the GPU from its first busy sample to its last, in [0, 1].

    samples: percent, in order of time; idle samples in between count.
    """
    busy = [index for index, use in enumerate(samples) if use > 0]
    return mean(samples[busy[0] : busy[-1] + 1]) / 100 if busy else 0.0


def _timings(output: Path) -> object:
    return json.loads((output / "run.json").read_text())["timings"]


def classify(
    bundle: Path, task: str, corpus: Path, output: Path, device: DeviceKind, *options: str
) -> list[str]:
    """The command of a run on a GPU."""
    command = [sys.executable, "-m", "batch", str(corpus), "--task", task, "--bundle", str(bundle)]
    return [*command, "--output", str(output), "--device", device, "--overwrite", *options]
