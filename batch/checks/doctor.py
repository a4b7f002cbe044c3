"""`batch-classify doctor`: is this installation able to score?"""

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
from schemas.bundle.variants import ENGINES, PRECISIONS
from schemas.errors import NarrascanError, UsageError
from schemas.text.model_text import ModelText

LITTLE_MEMORY = 10**9
"""Bytes; a run with the default model stays below."""


def examine(bundle: Path | None, public_key: Path | None = None) -> Iterator[Finding]:
    """Look at the machine, the engine, CUDA and, where there is one, the bundle.

    public_key: the key that must have signed the bundle, if any. Raises UsageError if it is none.
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
    held = "no container quota" if quota is None else f"container quota {quota:g}"
    yield Finding(
        "ok",
        "cores",
        f"{usable_cores()} usable of {os.cpu_count()} ({allowed_cores()} by affinity, {held})",
    )
    features = cpu_features()
    if features:
        yield Finding("ok", "cpu", ", ".join(features))
    else:
        yield Finding("note", "cpu", "no vector instructions that are known here; expect it slow")
    free = free_memory_bytes()
    if free is not None:
        limit = read_limits().memory_bytes
        inside = f" in a container limited to {limit / 1e9:.1f} GB" if limit else ""
        verdict: Verdict = "ok" if free >= LITTLE_MEMORY else "note"
        yield Finding(verdict, "memory", f"{free / 1e9:.1f} GB free{inside}")


def _engine() -> Iterator[Finding]:
    engines = installed_engines()
    named = ", ".join(f"{name} {number}" for name, number in engines.items())
    if len(engines) > 1:
        yield Finding(
            "problem",
            "engine",
            f"{named} are installed side by side; they overwrite each other's files, and CUDA "
            "silently disappears",
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
        yield Finding("ok", "engine", f"{named or 'onnxruntime'}; providers: {providers}")
    yield from _openvino()
    problem = cuda_problem()
    if problem is None:
        yield Finding("ok", "cuda", "driver and libraries load")
    elif "onnxruntime-gpu" in engines:
        yield Finding(
            "problem", "cuda", problem, "install what is missing, or use the `cpu` extra here"
        )
    else:
        yield Finding("note", "cuda", f"not used: {problem}")


def _openvino() -> Iterator[Finding]:
    """What the engine runs here that is the faster one on a CPU."""
    known = [each for each in PRECISIONS if "openvino" in ENGINES[each]]
    problems = {each: openvino_problem(each) for each in known}
    runs = ", ".join(each for each, problem in problems.items() if problem is None)
    if not runs:
        text = f"not used: {problems['fp32']}; onnxruntime runs fp32, and more slowly"
        yield Finding("note", "openvino", text)
        return
    yield Finding("ok", "openvino", f"{version('openvino')}; runs {runs}")
    for each, problem in problems.items():
        if problem is not None:
            yield Finding("note", "openvino", f"{each} is not available: {problem}")


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
    """What there is to say of the signature of a bundle that could be opened.

    required: a key was named, and has been found to be the one. Raises BundleError for a file that
    is no signature.
    """
    stored = read_signature(bundle.files)
    if stored is None:
        return Finding("note", "signed", "not signed")
    if required:
        return Finding("ok", "signed", f"by key {stored.key_id}, which is the one required")
    return Finding(
        "note", "signed", f"it says by key {stored.key_id}; --require-signature would check that"
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
        f"{task}: scored a text with {scorer.number_of_labels} labels in "
        f"{scorer.metadata.precision} by {scorer.runner.engine} on {scorer.runner.device.name}",
    )
