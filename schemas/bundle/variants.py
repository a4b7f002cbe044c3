"""Ways to run an exported model: in which precision, by which engine, on which kind of device."""

from __future__ import annotations

from typing import Literal, get_args

Precision = Literal["fp32", "fp16", "bf16", "int8"]
"""`fp32`: as it was trained. `fp16`: a file of its own, with fused attention and an encoder in half
precision, for CUDA. `bf16`: the same file as fp32, multiplied in bfloat16. `int8`: a file of its
own, with weights and activations of 8 bits where that was found to cost little."""

PRECISIONS: tuple[Precision, ...] = get_args(Precision)

EngineName = Literal["onnxruntime", "openvino"]

DeviceKind = Literal["cpu", "cuda"]

ENGINES: dict[Precision, tuple[EngineName, ...]] = {
    "fp32": ("openvino", "onnxruntime"),
    "fp16": ("onnxruntime",),
    "bf16": ("openvino",),
    "int8": ("openvino",),
}
"""Who can run a precision on a CPU, the fastest first; on CUDA all are onnxruntime's."""

ONLY_ON: dict[Precision, DeviceKind] = {"fp16": "cuda", "bf16": "cpu", "int8": "cpu"}
"""The kind of device that runs a precision, where only one does."""

OWN_FILE: tuple[Precision, ...] = ("fp16", "int8")
"""Precisions that have a file of their own; the engine makes the others of the one of fp32."""
