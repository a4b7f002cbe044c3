"""Precisions of an exported model, with the engines and devices that run them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, get_args

Precision = Literal["fp32", "fp16", "bf16", "int8"]
"""`fp32`: as it was trained. `fp16`: a file of its own, with fused attention and an encoder in half
precision, for CUDA. `bf16`: the same file as fp32, multiplied in bfloat16. `int8`: a file of its
own, with weights and activations of 8 bits where that was found to cost little."""

PRECISIONS: tuple[Precision, ...] = get_args(Precision)

EngineName = Literal["onnxruntime", "openvino"]

DeviceKind = Literal["cpu", "cuda"]


@dataclass(frozen=True)
class PrecisionSpec:
    """How a precision is run.

    engines: those that run it on a CPU, the fastest first; on CUDA all are onnxruntime's.
    only_on: the kind of device that runs it, None for any.
    has_own_file: False where the engine makes it from the file of fp32.
    """

    engines: tuple[EngineName, ...]
    only_on: DeviceKind | None
    has_own_file: bool


PRECISION_SPECS: Mapping[Precision, PrecisionSpec] = MappingProxyType(
    {
        "fp32": PrecisionSpec(("openvino", "onnxruntime"), only_on=None, has_own_file=False),
        "fp16": PrecisionSpec(("onnxruntime",), only_on="cuda", has_own_file=True),
        "bf16": PrecisionSpec(("openvino",), only_on="cpu", has_own_file=False),
        "int8": PrecisionSpec(("openvino",), only_on="cpu", has_own_file=True),
    }
)
