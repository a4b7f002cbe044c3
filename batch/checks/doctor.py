"""Checks of `batch-classify doctor`: whether this installation can score."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

from batch.checks.findings import Finding, Verdict
from batch.engines.openvino import openvino_problem
from batch.machine.cgroup import read_limits
from batch.machine.cores import allowed_cores, usable_cores
from batch.machine.cpu import cpu_features, free_memory_bytes
from batch.machine.device import choose_device, cuda_problem, import_engine, installed_engines
from batch.scoring.precision import choose_precision
from batch.scoring.scorer import open_scorer
from batch.scoring.signature import open_bundle, read_signature
from schemas.bundle.folder import Bundle
from schemas.bundle.variants import PRECISION_SPECS, PRECISIONS
from schemas.errors import NarrascanError, UsageError
from schemas.text.model_text import ModelText

LOW_MEMORY_BYTES = 10**9
"""A run with the default model needs less."""


def examine(bundle: Path | None, public_key: Path | None = None) -> Iterator[Finding]:
    """Check the machine, the engine, CUDA and, if one is named, the bundle.

    public_key: the key that must have signed the bundle, if any. Raises UsageError if it is not a
    public key.
    """
    yield from _machine()
    yield from _engine()
    if bundle is not None:
        yield from _bundle(bundle, public_key)


def _machine() -> Iterator[Finding]:
    yield Finding(
        "ok", "machine", f"Python {platform.python_version()}, {sys.platform}, {platform.machine()}"
    )
    quota = read_limits().cores
    quota_text = "no container quota" if quota is None else f"container quota {quota:g}"
    yield Finding(
        "ok",
        "cores",
        f"{usable_cores()} usable of {os.cpu_count()} ({allowed_cores()} by affinity, "
        f"{quota_text})",
    )
    features = cpu_features()
    if features:
        yield Finding("ok", "cpu", ", ".join(features))
    else:
        yield Finding("note", "cpu", "no known vector instructions; scoring will be slow")
    free_bytes = free_memory_bytes()
    if free_bytes is not None:
        limit = read_limits().memory_bytes
        limit_text = f" in a container limited to {limit / 1e9:.1f} GB" if limit else ""
        verdict: Verdict = "ok" if free_bytes >= LOW_MEMORY_BYTES else "note"
        yield Finding(verdict, "memory", f"{free_bytes / 1e9:.1f} GB free{limit_text}")


def _engine() -> Iterator[Finding]:
    engines = installed_engines()
    versions = ", ".join(f"{name} {number}" for name, number in engines.items())
    if len(engines) > 1:
        yield Finding(
            "problem",
            "engine",
            f"{versions} are installed side by side; they overwrite each other's files, and CUDA "
            "may be unavailable without an error",
            "pip uninstall onnxruntime onnxruntime-gpu, then install one of narrascan[cpu], "
            "narrascan[gpu]",
        )
    try:
        engine = import_engine()
    except NarrascanError as error:
        yield Finding.of_error("engine", error)
        return
    if len(engines) <= 1:
        providers = ", ".join(engine.get_available_providers())
        yield Finding("ok", "engine", f"{versions or 'onnxruntime'}; providers: {providers}")
    yield from _openvino()
    problem = cuda_problem()
    if problem is None:
        yield Finding("ok", "cuda", "driver and libraries load")
    elif "onnxruntime-gpu" in engines:
        yield Finding("problem", "cuda", problem, "install what is missing, or use the `cpu` extra")
    else:
        yield Finding("note", "cuda", f"not used: {problem}")


def _openvino() -> Iterator[Finding]:
    """Precisions that OpenVINO, the faster engine on a CPU, can run here."""
    precisions = [
        precision for precision in PRECISIONS if "openvino" in PRECISION_SPECS[precision].engines
    ]
    problems = {precision: openvino_problem(precision) for precision in precisions}
    supported = ", ".join(precision for precision in precisions if problems[precision] is None)
    if not supported:
        text = f"not used: {problems['fp32']}; onnxruntime runs fp32 instead, more slowly"
        yield Finding("note", "openvino", text)
        return
    yield Finding("ok", "openvino", f"{version('openvino')}; runs {supported}")
    for precision, problem in problems.items():
        if problem is not None:
            yield Finding("note", "openvino", f"{precision} is not available: {problem}")


def _bundle(folder: Path, public_key: Path | None) -> Iterator[Finding]:
    try:
        opened = open_bundle(folder, public_key)
        opened.check_all()
        tasks = ", ".join(opened.manifest.tasks)
        yield Finding("ok", "bundle", f"{folder}: every file is as it was exported; tasks: {tasks}")
        yield signature_finding(opened, required=public_key is not None)
        for task in opened.manifest.tasks:
            yield _trial(opened, task)
    except UsageError:
        raise
    except NarrascanError as error:
        yield Finding.of_error("bundle", error)


def signature_finding(bundle: Bundle, *, required: bool) -> Finding:
    """Finding for the signature of a bundle that was opened.

    required: a key was required, and opening the bundle has verified its signature.
    Raises BundleError if the signature file is not valid.
    """
    signature = read_signature(bundle.files)
    if signature is None:
        return Finding("note", "signed", "not signed")
    if required:
        return Finding("ok", "signed", f"by the required key {signature.key_id}")
    return Finding(
        "note",
        "signed",
        f"not verified: claims key {signature.key_id}; verify it with --require-signature",
    )


def _trial(bundle: Bundle, task: str) -> Finding:
    """Score one text on the device that a run would choose."""
    device = choose_device("auto")
    precision = choose_precision(bundle, (task,), device, "auto")
    scorer = open_scorer(bundle, (task,), device, precision=precision)
    scorer.score([ModelText("One article.", cut=False)])  # raises if an output is not finite
    return Finding(
        "ok",
        "trial",
        f"{task}: scored a text with {scorer.answer} in "
        f"{scorer.metadata.precision} by {scorer.runner.engine} on {scorer.runner.device.name}",
    )
