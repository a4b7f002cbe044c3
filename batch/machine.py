"""What of this machine matters to scores and to speed: processor features, engine, memory."""

from __future__ import annotations

import platform
from pathlib import Path

from batch.cgroup import read_limits
from batch.engines import engine_versions
from schemas.variants import EngineName

FEATURES = {
    "avx2": "AVX2",
    "avx512f": "AVX-512",
    "avx512_vnni": "AVX-512 VNNI",
    "avx_vnni": "AVX VNNI",
    "avx512_bf16": "AVX-512 bf16",
    "amx_bf16": "AMX bf16",
    "amx_int8": "AMX int8",
    "asimd": "NEON",
    "asimddp": "dot products",
    "i8mm": "int8 matrices",
    "bf16": "bf16",
    "sve": "SVE",
}
"""Instructions for which engines have code of their own, by the kernel's name for them."""


def cpu_features(root: Path = Path("/")) -> tuple[str, ...]:
    """Names of the FEATURES that this processor has; empty where the kernel is not Linux.

    root: where `proc` is mounted.
    """
    try:
        lines = (root / "proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ()
    for line in lines:
        name, _, value = line.partition(":")
        if name.strip() in ("flags", "Features"):  # of x86 and of ARM; every core has the same
            flags = set(value.split())
            return tuple(shown for flag, shown in FEATURES.items() if flag in flags)
    return ()


def engine_and_cpu(engine: EngineName) -> str:
    """What decides which code computes a graph by an engine here, in one line."""
    features = ", ".join(cpu_features()) or "no known vector instructions"
    versions = ", ".join(" ".join(one) for one in engine_versions(engine).items())
    return f"{platform.machine()} ({features}), {versions}"


def free_memory_bytes(root: Path = Path("/")) -> int | None:
    """Memory that a process can still get, on the machine and in its container; None if unknown.

    root: where `proc` and `sys` are mounted.
    """
    limit = read_limits(root).memory_free_bytes
    found = [] if limit is None else [limit]
    try:
        lines = (root / "proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        lines = []
    found += [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    return min(found, default=None)


def processor_class() -> str:
    """STUB."""
    import os

    return ", ".join(cpu_features()) + os.environ.get("ONEDNN_MAX_CPU_ISA", "")
