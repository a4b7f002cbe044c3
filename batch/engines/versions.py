"""Versions of engines, on which scores depend."""

from __future__ import annotations

import platform
from importlib.metadata import version

from batch.machine.cpu import cpu_features
from batch.machine.device import installed_engines
from schemas.bundle.variants import EngineName


def engine_versions(engine: EngineName) -> dict[str, str]:
    """Version of the package, or packages, of an engine; scores depend on it."""
    return installed_engines() if engine == "onnxruntime" else {engine: version(engine)}


def engine_and_cpu(engine: EngineName) -> str:
    """What decides which code computes a graph by an engine here, in one line."""
    features = ", ".join(cpu_features()) or "no known vector instructions"
    versions = ", ".join(" ".join(one) for one in engine_versions(engine).items())
    return f"{platform.machine()} ({features}), {versions}"
