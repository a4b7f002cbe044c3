"""Checks of CUDA: scores match a CPU, repetition is bit-identical, errors are clear.

Every check runs `batch-classify` itself; several run at the same time on one GPU.
"""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from batch.engines.graph_file import GraphFile
from bench.gpu.steps import Facts, Steps
from exporter.bundle.inspection import metadata_of
from exporter.precision.recipes import FP16_TOLERANCE
from schemas.arrays import BoolArray, Float32Array
from schemas.bundle.folder import Bundle
from schemas.bundle.variants import DeviceKind, Precision

FP32_TOLERANCE = 1e-3
"""Largest difference of a probability between CUDA and a CPU, both in fp32."""
PARALLEL_RUNS = 6
TIMEOUT_S = 90.0


@dataclass(frozen=True)
class Subject:
    """Bundle and corpus to check. corpus: has the columns `article_id` (unique) and `text`."""

    bundle: Path
    task: str
    corpus: Path
    work: Path
    device: DeviceKind

    def command(self, name: str, *options: str, corpus: Path | None = None) -> list[str]:
        """The command of a run with the output folder `name`."""
        command = [sys.executable, "-m", "batch", str(corpus or self.corpus), "--task", self.task]
        command += ["--bundle", str(self.bundle), "--output", str(self.work / name), "--overwrite"]
        return [*command, *options]

    def run(
        self, name: str, *options: str, corpus: Path | None = None, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run the command and wait for its exit."""
        return subprocess.run(
            self.command(name, *options, corpus=corpus),
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            env={**os.environ, **environment},
            check=False,
        )


@dataclass(frozen=True)
class Scores:
    """Predictions in the order of the article ids. probabilities, decided: (rows, labels)."""

    probabilities: Float32Array
    decided: BoolArray

    @classmethod
    def read(cls, output: Path, labels: Sequence[str]) -> Scores:
        """Read the predictions of a finished run."""
        table = pq.read_table(output / "predictions").sort_by("article_id")
        maps = table["probabilities"].combine_chunks()  # a map per row, in label order
        lists = table["labels"].to_pylist()
        return cls(
            np.asarray(maps.items, dtype=np.float32).reshape(-1, len(labels)),
            np.array([[label in row for label in labels] for row in lists], dtype=np.bool_),
        )


def precisions(device: DeviceKind) -> tuple[Precision, ...]:
    """Precisions to measure on a device; only fp32 on a CPU, where the scripts are tested."""
    return ("fp16", "fp32") if device == "cuda" else ("fp32",)


def run_checks(subject: Subject, steps: Steps) -> None:
    """Run all checks, the most important ones first."""
    subject.work.mkdir(parents=True, exist_ok=True)
    steps.run("doctor", partial(_doctor, subject))
    shuffled = _shuffled(subject)
    variations: dict[str, tuple[list[str], Path]] = {
        "first": ([], subject.corpus),
        "repeated": ([], subject.corpus),
        "small-chunks": (["--chunk-rows", "97", "--threads", "2"], subject.corpus),
        "shuffled": ([], shuffled),
    }
    runs = {
        f"{precision}-{name}": (
            ["--device", subject.device, "--precision", precision, *options],
            corpus,
        )
        for precision in precisions(subject.device)
        for name, (options, corpus) in variations.items()
    }
    runs["cpu"] = (["--device", "cpu", "--precision", "fp32"], subject.corpus)
    with ThreadPoolExecutor(PARALLEL_RUNS) as pool:
        futures = {
            name: pool.submit(subject.run, name, *options, corpus=corpus)
            for name, (options, corpus) in runs.items()
        }
        results = {name: future.result() for name, future in futures.items()}
    for precision in precisions(subject.device):
        steps.run(f"{precision} matches a CPU", partial(_matches_cpu, subject, results, precision))
        steps.run(
            f"{precision} bit-identical",
            partial(_bit_identical, subject, results, precision, list(variations)),
        )
    if subject.device == "cuda":
        steps.run("small GPU memory limit", partial(_small_memory_limit, subject))
    steps.run("hidden GPUs", partial(_hidden_gpus, subject))
    steps.run("unknown GPU", partial(_unknown_gpu, subject))
    steps.run("killed and resumed", partial(_killed_and_resumed, subject))


def _doctor(subject: Subject) -> Facts:
    command = [sys.executable, "-m", "batch", "doctor", "--bundle", str(subject.bundle)]
    completed = subprocess.run(
        command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    assert completed.returncode == 0, completed.stdout + completed.stderr
    assert f"on {subject.device}" in completed.stdout, completed.stdout
    return {"output": completed.stdout.splitlines()}


def _shuffled(subject: Subject) -> Path:
    table = pq.read_table(subject.corpus)
    order = np.random.default_rng(0).permutation(len(table))
    path = subject.work / "shuffled.parquet"
    pq.write_table(table.take(pa.array(order)), path)
    return path


Results = Mapping[str, "subprocess.CompletedProcess[str]"]


def _scores(subject: Subject, results: Results, name: str) -> Scores:
    assert results[name].returncode == 0, results[name].stderr[-2000:]
    labels = metadata_of(
        GraphFile.of_bundle(Bundle.open(subject.bundle), (subject.task,), "fp32"), subject.task
    ).labels
    return Scores.read(subject.work / name, labels)


def _matches_cpu(subject: Subject, results: Results, precision: Precision) -> Facts:
    cpu = _scores(subject, results, "cpu")
    cuda = _scores(subject, results, f"{precision}-first")
    difference = float(np.abs(cpu.probabilities - cuda.probabilities).max())
    differing = cpu.decided != cuda.decided
    allowed = FP16_TOLERANCE if precision == "fp16" else FP32_TOLERANCE
    assert difference <= allowed, f"a probability differs by {difference}"
    return {
        "rows": len(differing),
        "largest_difference": difference,
        "differing_decisions": float(differing.mean()),
        "differing_articles": float(differing.any(axis=1).mean()),
    }


def _bit_identical(
    subject: Subject, results: Results, precision: Precision, names: Sequence[str]
) -> Facts:
    first, *others = names
    expected = _scores(subject, results, f"{precision}-{first}").probabilities
    differing = {
        name: int(
            (_scores(subject, results, f"{precision}-{name}").probabilities != expected).sum()
        )
        for name in others
    }
    assert not any(differing.values()), differing
    return {"rows": len(expected), "variations": others}


def _small_memory_limit(subject: Subject) -> Facts:
    facts = {}
    for limit in ("60MB", "400MB"):
        options = ["--device", "cuda", "--gpu-memory-limit", limit]
        completed = subject.run(f"limit-{limit}", *options, "--max-tokens-per-batch", "131072")
        message = [line for line in completed.stderr.splitlines() if "emory" in line]
        facts[limit] = {"exit": completed.returncode, "message": message[-3:]}
        assert completed.returncode in (0, 1), completed.stderr[-2000:]
        assert completed.returncode == 0 or message, completed.stderr[-2000:]
        assert "Traceback" not in completed.stderr, completed.stderr[-2000:]
    return facts


def _hidden_gpus(subject: Subject) -> Facts:
    explicit = subject.run("hidden", "--device", "cuda", CUDA_VISIBLE_DEVICES="")
    assert explicit.returncode == 1, explicit.stderr
    assert "Traceback" not in explicit.stderr, explicit.stderr
    auto = subject.run("hidden-auto", "--device", "auto", CUDA_VISIBLE_DEVICES="")
    assert auto.returncode == 0, auto.stderr
    device = [line for line in auto.stderr.splitlines() if line.startswith("device")]
    return {"explicit": explicit.stderr.splitlines()[-3:], "auto": device}


def _unknown_gpu(subject: Subject) -> Facts:
    completed = subject.run("unknown", "--device", "cuda:7")
    assert completed.returncode == 1, completed.stderr
    assert "Traceback" not in completed.stderr, completed.stderr
    return {"message": completed.stderr.splitlines()[-3:]}


def _killed_and_resumed(subject: Subject) -> Facts:
    options = ["--device", subject.device, "--chunk-rows", "16"]
    command = subject.command("killed", *options)
    command.remove("--overwrite")
    whole = subject.run("whole", *options)
    assert whole.returncode == 0, whole.stderr[-2000:]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + TIMEOUT_S
    predictions = subject.work / "killed" / "predictions"
    while len(list(predictions.glob("*.parquet"))) < 2 and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    parts = len(list(predictions.glob("*.parquet")))
    resumed = subprocess.run(
        command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    assert resumed.returncode == 0, resumed.stderr[-2000:]
    assert _hashes(predictions) == _hashes(subject.work / "whole" / "predictions")
    return {"parts when killed": parts, "parts": len(_hashes(predictions))}


def _hashes(folder: Path) -> dict[str, str]:
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.glob("*.parquet"))
    }
