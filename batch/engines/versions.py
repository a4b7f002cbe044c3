"""Engine versions, which scores depend on."""

from __future__ import annotations

import platform
from importlib.metadata import version

from batch.machine.cpu import cpu_features
from batch.machine.device import installed_engines
from schemas.bundle.variants import EngineName


def engine_versions(engine: EngineName) -> dict[str, str]:
    """Versions of the packages of an engine, by package name."""
    return installed_engines() if engine == "onnxruntime" else {engine: version(engine)}


def engine_and_cpu(engine: EngineName) -> str:
    """Processor and engine versions in one line; they determine the code that computes a graph."""
    features = ", ".join(cpu_features()) or "no known vector instructions"
    versions = ", ".join(" ".join(item) for item in engine_versions(engine).items())
    return f"{platform.machine()} ({features}), {versions}"
