"""Description of the machine on which the GPU benchmark runs."""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess

from batch.machine.cores import allowed_cores
from batch.machine.device import choose_device, gpu_model
from bench.gpu.steps import Facts
from schemas.bundle.variants import DeviceKind

PACKAGES = ("onnxruntime-gpu", "torch", "transformers", "sentence-transformers", "tokenizers")


def describe_machine(device: DeviceKind) -> Facts:
    """GPU, driver, cores and versions of the packages."""
    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    gpu = "none"
    if device == "cuda":
        gpu = subprocess.run(query, capture_output=True, text=True, check=True).stdout.strip()
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "gpu": gpu,
        "model": gpu_model(choose_device(device)),
        "cores": allowed_cores(),
        "python": platform.python_version(),
        "versions": versions,
    }
