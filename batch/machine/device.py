"""Choice of the device, and with it of the onnxruntime execution provider.

A device is never replaced silently: if CUDA is requested and not available, the error names the
missing library or driver.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import os
import re
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from schemas.bundle.variants import DeviceKind
from schemas.errors import DeviceError, UsageError
from schemas.printable import printable

CPU_PROVIDER = "CPUExecutionProvider"
CUDA_PROVIDER = "CUDAExecutionProvider"
ERRORS_ONLY, FATAL_ONLY = 3, 4
"""Severities of onnxruntime's log."""
_MULTIPROCESSORS, _CAPABILITY_MAJOR, _CAPABILITY_MINOR = 16, 75, 76
"""Values of CUdevice_attribute in cuda.h."""
_DEVICE = re.compile(r"(cpu|cuda)(?::(\d+))?")


@dataclass(frozen=True)
class Device:
    """A device that sessions can be opened on.

    why: reason for the choice, for `run.json` and the screen.
    memory_bytes: maximum size of the engine's memory arena on a GPU; None for all of the memory.
    """

    kind: DeviceKind
    index: int
    why: str
    memory_bytes: int | None = None

    @property
    def name(self) -> str:
        """`cpu` or `cuda:N`."""
        return "cpu" if self.kind == "cpu" else f"cuda:{self.index}"

    @property
    def provider(self) -> str:
        """Name of the onnxruntime execution provider."""
        return CPU_PROVIDER if self.kind == "cpu" else CUDA_PROVIDER


def installed_engines() -> dict[str, str]:
    """Versions of the onnxruntime wheels that are installed, by package name."""
    versions = {}
    for package in ("onnxruntime", "onnxruntime-gpu"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions


def import_engine() -> Any:
    """Import onnxruntime. Raises DeviceError with the extra to install if it is missing."""
    try:
        import onnxruntime
    except ImportError as error:
        raise DeviceError(
            f"no ONNX engine is installed: {error}",
            hint="pip install 'narrascan[cpu]', or 'narrascan[gpu]' on a machine with CUDA",
        ) from error
    # Sessions set their own log level; warnings outside of sessions are harmless.
    onnxruntime.set_default_logger_severity(ERRORS_ONLY)
    return onnxruntime


def choose_device(requested: str, *, memory_bytes: int | None = None) -> Device:
    """Turn `auto`, `cpu`, `cuda` or `cuda:N` into a device that is available.

    `auto` takes CUDA where it works, else the CPU, and records why. memory_bytes: see `Device`.
    Raises UsageError for any other value, DeviceError if CUDA was requested and is not available.
    """
    if requested == "auto":
        problem = cuda_problem()
        if problem is None:
            return Device("cuda", 0, "auto: CUDA works here", memory_bytes)
        return Device("cpu", 0, f"auto: no CUDA ({problem})")
    match = _DEVICE.fullmatch(requested)
    if match is None or (match[1] == "cpu" and match[2] is not None):
        raise UsageError(
            f"--device {requested!r}: expected auto, cpu, cuda or cuda:N, as in cuda:1"
        )
    if match[1] == "cpu":
        return Device("cpu", 0, "asked for")
    index = int(match[2] or 0)
    problem = cuda_problem(index)
    if problem is not None:
        raise DeviceError(
            f"--device {requested}: CUDA is not available: {problem}",
            hint="use --device cpu, or repair the installation; `batch-classify doctor` checks it",
        )
    return Device("cuda", index, "asked for", memory_bytes)


def cuda_problem(index: int = 0) -> str | None:
    """Reason why CUDA device `index` cannot be used, or None if it can.

    onnxruntime-gpu lists its CUDA provider even where CUDA is not installed, so the libraries
    themselves are opened: the loader's message names the missing one.
    """
    if "onnxruntime-gpu" not in installed_engines():
        return "the package onnxruntime-gpu is not installed (extra `gpu`)"
    engine = import_engine()
    if CUDA_PROVIDER not in engine.get_available_providers():
        return (
            "the installed onnxruntime has no CUDA provider: onnxruntime and onnxruntime-gpu are "
            "installed side by side, or the CPU wheel was installed last"
        )
    return _driver_problem(index) or _library_problem(engine)


def gpu_model(device: Device) -> str | None:
    """Model of a GPU, which determines the kernels that libraries choose, and so the exact scores.

    None for a CPU. Two GPUs of one model have the same description; MIG slices of one may differ.
    Raises DeviceError if the driver does not answer.
    """
    if device.kind == "cpu":
        return None
    problem = _driver_problem(device.index)
    driver = None if problem else _driver()
    handle, name = ctypes.c_int(0), ctypes.create_string_buffer(256)
    if driver is None or driver.cuDeviceGet(ctypes.byref(handle), device.index):
        reason = problem or "the driver does not list this device"
        raise DeviceError(f"{device.name}: its model cannot be read: {reason}")
    driver.cuDeviceGetName(name, len(name), handle)
    numbers = []
    for attribute in (_CAPABILITY_MAJOR, _CAPABILITY_MINOR, _MULTIPROCESSORS):
        value = ctypes.c_int(0)
        driver.cuDeviceGetAttribute(ctypes.byref(value), attribute, handle)
        numbers.append(value.value)
    major, minor, multiprocessors = numbers
    shown = printable(name.value.decode("utf-8", "replace"))
    return f"{shown}, compute capability {major}.{minor}, {multiprocessors} multiprocessors"


def _driver() -> Any:
    """The NVIDIA driver's library. Raises OSError if it is missing."""
    return ctypes.CDLL("libcuda.so.1" if os.name != "nt" else "nvcuda.dll")


def _driver_problem(index: int) -> str | None:
    try:
        driver = _driver()
    except OSError as error:
        return f"the NVIDIA driver is missing ({error})"
    status = driver.cuInit(0)
    if status != 0:
        return f"the NVIDIA driver does not start (cuInit gives error {status})"
    count = ctypes.c_int(0)
    driver.cuDeviceGetCount(ctypes.byref(count))
    if index >= count.value:
        return f"device {index} was requested, and the driver lists {count.value} devices"
    return None


def _library_problem(engine: Any) -> str | None:
    with contextlib.redirect_stdout(io.StringIO()):  # it prints the libraries that it cannot find
        engine.preload_dlls(directory="")  # CUDA libraries that came as Python packages
    folder = Path(engine.__file__).parent / "capi"
    try:
        for name in ("libonnxruntime_providers_shared.so", "libonnxruntime_providers_cuda.so"):
            ctypes.CDLL(str(folder / name), mode=ctypes.RTLD_GLOBAL)
    except OSError as error:
        return f"a CUDA library is missing ({error})"
    return None
