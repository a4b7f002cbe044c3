"""Peak speed of this machine by precision, for the share of it that a backend uses."""

from __future__ import annotations

import os
import time
from functools import partial
from typing import Any, Self

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from pydantic import BaseModel, ConfigDict

from batch.engines import usable_engines
from batch.engines.openvino import import_openvino
from batch.engines.versions import engine_and_cpu
from batch.machine.device import choose_device
from bench.flops import MATRIX_SIZE, ROUNDS, measure_peak
from schemas.bundle.variants import Precision

ARITHMETIC: dict[str, Precision] = {"bf16": "bf16", "int8": "int8"}
"""Precision of the matmuls of a backend; fp32 for all others."""
INT8_MATMULS = 4


class Machine(BaseModel):
    """A machine on which results were measured. peaks: GFLOP/s of a large matmul by precision."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cpu: str
    cores: int
    peaks: dict[Precision, float]

    @classmethod
    def measure(cls) -> Self:
        """Measure this machine."""
        return cls(
            cpu=engine_and_cpu(usable_engines("fp32", choose_device("cpu"))[0]),
            cores=len(os.sched_getaffinity(0)),
            peaks={
                "fp32": round(measure_peak(torch.float32)),
                "bf16": round(measure_peak(torch.bfloat16)),
                "int8": round(measure_int8_peak()),
            },
        )

    def peak_of(self, backend: str) -> float:
        """GFLOP/s that a backend could reach."""
        return self.peaks[ARITHMETIC.get(backend, "fp32")]


def measure_int8_peak() -> float:
    """GOP/s of large 8-bit matmuls by OpenVINO: the best of several rounds.

    A chain of matmuls with the outputs quantized again, as in a model: otherwise OpenVINO does not
    use 8 bits.
    """
    core = import_openvino().Core()
    model = core.read_model(_int8_matmuls().SerializeToString())
    request = core.compile_model(model, "CPU").create_infer_request()
    left = np.random.default_rng(1).integers(0, 255, (MATRIX_SIZE, MATRIX_SIZE)).astype(np.float32)
    best_s = float("inf")
    for _ in range(ROUNDS):
        started = time.perf_counter()
        request.infer({"values": left}, share_inputs=True, share_outputs=True)
        best_s = min(best_s, time.perf_counter() - started)
    return INT8_MATMULS * 2 * MATRIX_SIZE**3 / best_s / 1e9


def _int8_matmuls() -> onnx.ModelProto:
    weights = np.random.default_rng(0).integers(
        -127, 128, (MATRIX_SIZE, MATRIX_SIZE), dtype=np.int8
    )
    constants: dict[str, np.ndarray[Any, Any]] = {
        "scale": np.array(1.0, np.float32),
        "zero": np.array(128, np.uint8),
        "weights": weights,
        "weights_scale": np.array(1e-4, np.float32),
        "weights_zero": np.array(0, np.int8),
    }
    dequantize = partial(helper.make_node, "DequantizeLinear")
    nodes = [dequantize(["weights", "weights_scale", "weights_zero"], ["float_weights"])]
    values = "values"
    for number in range(INT8_MATMULS):
        quantized, dequantized, matmul = (
            f"{name}{number}" for name in ("quantized", "dequantized", "matmul")
        )
        nodes += [
            helper.make_node("QuantizeLinear", [values, "scale", "zero"], [quantized]),
            dequantize([quantized, "scale", "zero"], [dequantized]),
            helper.make_node("MatMul", [dequantized, "float_weights"], [matmul]),
        ]
        values = matmul
    graph = helper.make_graph(
        nodes,
        "matmuls",
        [helper.make_tensor_value_info("values", TensorProto.FLOAT, [MATRIX_SIZE, MATRIX_SIZE])],
        [helper.make_tensor_value_info(values, TensorProto.FLOAT, [MATRIX_SIZE, MATRIX_SIZE])],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.checker.check_model(model)
    return model
