"""Processor features and free memory, which scores and speed depend on."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Mapping
from pathlib import Path

from batch.machine.cgroup import read_limits

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
"""Vector instructions that engines have code for: display names by the Linux kernel's names."""

IDENTITY_FIELDS = (
    "vendor_id",
    "cpu family",
    "model",
    "CPU implementer",
    "CPU architecture",
    "CPU variant",
    "CPU part",
)
"""Fields of /proc/cpuinfo that identify a processor design, on x86 and ARM. The model name is not
among them: one design is sold, and virtualized, under many names."""

VECTOR_FLAGS = {
    "flags": re.compile(r"(?:s?sse\d|avx|amx|fma|f16c|xop|gfni)\w*|pni"),
    "Features": re.compile(r"(?:asimd|fphp|sve|sme|bf16|i8mm)\w*"),
}
"""Instruction sets that engines and NumPy have code for, by the /proc/cpuinfo field that lists them
on x86 and on ARM. Other flags, such as those of mitigations, change with a kernel update and do not
affect which code runs."""

ENVIRONMENT = (
    "ONEDNN_MAX_CPU_ISA",
    "DNNL_MAX_CPU_ISA",
    "ONEDNN_CPU_ISA_HINTS",
    "DNNL_CPU_ISA_HINTS",
    "ONEDNN_DEFAULT_FPMATH_MODE",
    "DNNL_DEFAULT_FPMATH_MODE",
    "OV_CPU_MAX_ISA",
    "OV_CPU_LEGACY_ATTN",
    "ORT_MLAS_QKGEMM_S8_APPROX_VNNI",
    "ORT_DISABLE_FLASH_ATTENTION",
    "ORT_DISABLE_FUSED_ATTENTION",
    "ORT_DISABLE_FUSED_CROSS_ATTENTION",
    "ORT_DISABLE_MEMORY_EFFICIENT_ATTENTION",
    "ORT_DISABLE_TRT_FLASH_ATTENTION",
    "ORT_ENABLE_CUDNN_FLASH_ATTENTION",
    "ORT_ENABLE_LEAN_ATTENTION",
    "NPY_DISABLE_CPU_FEATURES",
    "NPY_ENABLE_CPU_FEATURES",
    "OPENBLAS_CORETYPE",
    "GLIBC_TUNABLES",
    "NVIDIA_TF32_OVERRIDE",
    "CUBLAS_WORKSPACE_CONFIG",
)
"""Variables by which oneDNN (in OpenVINO), OpenVINO, onnxruntime, NumPy, glibc and CUDA run other
code than the default for the processor: from their documentation, and from the variables that their
libraries read.
"""


def processor_class(root: Path = Path("/"), environment: Mapping[str, str] = os.environ) -> str:
    """One-line description of this processor, the same on machines that run the same code.

    It has the processor's design and vector instructions, and the environment variables that choose
    among these. It does not change with a kernel update. root: where `proc` is mounted.
    """
    try:
        lines = (root / "proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        design = [platform.processor()]
    else:
        design = _design(lines)
    variables = [
        f"{name}={value}" for name in ENVIRONMENT if (value := environment.get(name, "").strip())
    ]
    return "; ".join([platform.machine(), *design, *variables])


def _design(lines: list[str]) -> list[str]:
    """Designs of the cores, which may differ, and the vector instructions of all of them."""
    pairs = (line.partition(":") for line in lines)
    fields = [(name.strip(), value.strip()) for name, _, value in pairs]
    identities = {name: {value for key, value in fields if key == name} for name in IDENTITY_FIELDS}
    vectors = sorted(
        {
            flag
            for key, value in dict.fromkeys(fields)
            if key in VECTOR_FLAGS
            for flag in value.split()
            if VECTOR_FLAGS[key].fullmatch(flag)
        }
    )
    designs = [
        f"{name} {','.join(sorted(values))}" for name, values in identities.items() if values
    ]
    return [*designs, " ".join(vectors)]


def cpu_features(root: Path = Path("/")) -> tuple[str, ...]:
    """Display names of the FEATURES that this processor has; empty where the kernel is not Linux.

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


def free_memory_bytes(root: Path = Path("/")) -> int | None:
    """Memory that is available on the machine and in its container; None if unknown.

    root: where `proc` and `sys` are mounted.
    """
    container_bytes = read_limits(root).memory_free_bytes
    candidates = [] if container_bytes is None else [container_bytes]
    try:
        lines = (root / "proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        lines = []
    candidates += [
        int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")
    ]
    return min(candidates, default=None)
