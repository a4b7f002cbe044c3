"""On which device a precision is checked before it may be published."""

from __future__ import annotations

from batch.machine.device import Device, choose_device
from schemas.bundle.variants import PRECISION_SPECS, Precision


def checking_device(precision: Precision) -> Device:
    """The CPU, but CUDA for what is for CUDA.

    Without CUDA a CPU checks that too: onnxruntime then computes in fp32 between roundings to fp16,
    which shows a wrong graph, weights that fp16 cannot hold, and most of what rounding costs.
    """
    return choose_device("auto" if PRECISION_SPECS[precision].only_on == "cuda" else "cpu")
