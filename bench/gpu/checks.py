"""Does CUDA do what is promised of it: the scores of a CPU, the same bits every time, clear errors.

Every check runs `batch-classify` itself. Several run at the same time, on one GPU.
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
from exporter.precision.reduce import FP16_TOLERANCE
from schemas.arrays import BoolArray, Float32Array
from schemas.bundle.folder import Bundle
from schemas.bundle.variants import DeviceKind, Precision

FP32_TOLERANCE = 1e-3
"""Largest difference of a probability between CUDA and a CPU, both in fp32."""
AT_ONCE = 6
TIMEOUT_S = 90.0


@dataclass(frozen=True)
class Subject:
    """What is scored: the corpus has the columns `article_id`, with no value twice, and `text`."""

    bundle: Path
    task: str
    corpus: Path
    work: Path
    device: DeviceKind

    def command(self, name: str, *options: str, corpus: Path | None = None) -> list[str]:
        """The command of a run whose output folder is called `name`."""
        words = [sys.executable, "-m", "batch", str(corpus or self.corpus), "--task", self.task]
        words += ["--bundle", str(self.bundle), "--output", str(self.work / name), "--overwrite"]
        return [*words, *options]

    def run(
        self, name: str, *options: str, corpus: Path | None = None, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run the command to its end, whatever that is."""
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
        stored = table["probabilities"].combine_chunks()  # a map a row, in label order
        lists = table["labels"].to_pylist()
        return cls(
            np.asarray(stored.items, dtype=np.float32).reshape(-1, len(labels)),
            np.array([[label in row for label in labels] for row in lists], dtype=np.bool_),
        )


def precisions(device: DeviceKind) -> tuple[Precision, ...]:
    """What is measured on a device; a CPU only tries the scripts out."""
    return ("fp16", "fp32") if device == "cuda" else ("fp32",)


def run_checks(subject: Subject, steps: Steps) -> None:
    """Every check, the most telling first."""
    subject.work.mkdir(parents=True, exist_ok=True)
    steps.run("doctor", partial(_doctor, subject))
    shuffled = _shuffled(subject)
    arrangements: dict[str, tuple[list[str], Path]] = {
        "first": ([], subject.corpus),
        "again": ([], subject.corpus),
        "small-chunks": (["--chunk-rows", "97", "--threads", "2"], subject.corpus),
        "shuffled": ([], shuffled),
    }
    runs = {
        f"{precision}-{name}": (
            ["--device", subject.device, "--precision", precision, *options],
            corpus,
        )
        for precision in precisions(subject.device)
        for name, (options, corpus) in arrangements.items()
    }
    runs["cpu"] = (["--device", "cpu", "--precision", "fp32"], subject.corpus)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        ended = {
            name: pool.submit(subject.run, name, *options, corpus=corpus)
            for name, (options, corpus) in runs.items()
        }
        results = {name: future.result() for name, future in ended.items()}
    for precision in precisions(subject.device):
        steps.run(f"{precision} as a CPU", partial(_like_cpu, subject, results, precision))
        steps.run(
            f"{precision} same bits",
            partial(_same_bits, subject, results, precision, list(arrangements)),
        )
    if subject.device == "cuda":
        steps.run("little GPU memory", partial(_little_memory, subject))
    steps.run("hidden GPUs", partial(_hidden, subject))
    steps.run("unknown GPU", partial(_unknown, subject))
    steps.run("killed and resumed", partial(_killed, subject))


def _doctor(subject: Subject) -> Facts:
    words = [sys.executable, "-m", "batch", "doctor", "--bundle", str(subject.bundle)]
    ended = subprocess.run(words, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert f"on {subject.device}" in ended.stdout, ended.stdout
    return {"output": ended.stdout.splitlines()}


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


def _like_cpu(subject: Subject, results: Results, precision: Precision) -> Facts:
    plain = _scores(subject, results, "cpu")
    cuda = _scores(subject, results, f"{precision}-first")
    difference = float(np.abs(plain.probabilities - cuda.probabilities).max())
    differ = plain.decided != cuda.decided
    allowed = FP16_TOLERANCE if precision == "fp16" else FP32_TOLERANCE
    assert difference <= allowed, f"a probability differs by {difference}"
    return {
        "rows": len(differ),
        "largest_difference": difference,
        "decisions_that_differ": float(differ.mean()),
        "articles_that_differ": float(differ.any(axis=1).mean()),
    }


def _same_bits(
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
    return {"rows": len(expected), "arrangements": others}


def _little_memory(subject: Subject) -> Facts:
    facts = {}
    for limit in ("60MB", "400MB"):
        options = ["--device", "cuda", "--gpu-memory-limit", limit]
        ended = subject.run(f"limit-{limit}", *options, "--max-tokens-per-batch", "131072")
        message = [line for line in ended.stderr.splitlines() if "emory" in line]
        facts[limit] = {"exit": ended.returncode, "message": message[-3:]}
        assert ended.returncode in (0, 1), ended.stderr[-2000:]
        assert ended.returncode == 0 or message, ended.stderr[-2000:]
        assert "Traceback" not in ended.stderr, ended.stderr[-2000:]
    return facts


def _hidden(subject: Subject) -> Facts:
    asked = subject.run("hidden", "--device", "cuda", CUDA_VISIBLE_DEVICES="")
    assert asked.returncode == 1, asked.stderr
    assert "Traceback" not in asked.stderr, asked.stderr
    auto = subject.run("hidden-auto", "--device", "auto", CUDA_VISIBLE_DEVICES="")
    assert auto.returncode == 0, auto.stderr
    device = [line for line in auto.stderr.splitlines() if line.startswith("device")]
    return {"asked for": asked.stderr.splitlines()[-3:], "auto": device}


def _unknown(subject: Subject) -> Facts:
    ended = subject.run("unknown", "--device", "cuda:7")
    assert ended.returncode == 1, ended.stderr
    assert "Traceback" not in ended.stderr, ended.stderr
    return {"message": ended.stderr.splitlines()[-3:]}


def _killed(subject: Subject) -> Facts:
    options = ["--device", subject.device, "--chunk-rows", "16"]
    words = [word for word in subject.command("killed", *options) if word != "--overwrite"]
    whole = subject.run("whole", *options)
    assert whole.returncode == 0, whole.stderr[-2000:]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until = time.monotonic() + TIMEOUT_S
    predictions = subject.work / "killed" / "predictions"
    while len(list(predictions.glob("*.parquet"))) < 2 and process.poll() is None:
        assert time.monotonic() < until
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    parts = len(list(predictions.glob("*.parquet")))
    again = subprocess.run(words, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert again.returncode == 0, again.stderr[-2000:]
    assert _hashes(predictions) == _hashes(subject.work / "whole" / "predictions")
    return {"parts when killed": parts, "parts": len(_hashes(predictions))}


def _hashes(folder: Path) -> dict[str, str]:
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.glob("*.parquet"))
    }
