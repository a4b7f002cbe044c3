"""`batch-classify doctor`: is this installation able to score?"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from batch.cores import usable_cores
from batch.device import cuda_problem, import_engine, installed_engines
from schemas.bundle import Bundle
from schemas.errors import NarrascanError

Verdict = Literal["ok", "note", "problem"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. advice: what to do about a problem."""

    verdict: Verdict
    subject: str
    text: str
    advice: str | None = None


def examine(bundle: Path | None) -> Iterator[Finding]:
    """Look at the machine, the engine, CUDA and, where there is one, the bundle."""
    yield Finding(
        "ok",
        "machine",
        f"Python {platform.python_version()}, {sys.platform}, {platform.machine()}, "
        f"{usable_cores()} usable of {os.cpu_count()} cores",
    )
    yield from _engine()
    if bundle is not None:
        yield from _bundle(bundle)


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
        yield Finding("problem", "engine", error.message, error.hint)
        return
    if len(engines) <= 1:
        providers = ", ".join(engine.get_available_providers())
        yield Finding("ok", "engine", f"{named or 'onnxruntime'}; providers: {providers}")
    problem = cuda_problem()
    if problem is None:
        yield Finding("ok", "cuda", "driver and libraries load")
    elif "onnxruntime-gpu" in engines:
        yield Finding(
            "problem", "cuda", problem, "install what is missing, or use the `cpu` extra here"
        )
    else:
        yield Finding("note", "cuda", f"not used: {problem}")


def _bundle(folder: Path) -> Iterator[Finding]:
    try:
        opened = Bundle.open(folder)
        opened.check_all()
    except NarrascanError as error:
        yield Finding("problem", "bundle", error.message, error.hint)
        return
    tasks = ", ".join(opened.manifest.tasks)
    yield Finding("ok", "bundle", f"{folder}: every file is as it was exported; tasks: {tasks}")
