"""What this machine could do at best, for shares of it."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from functools import partial
from typing import Any, Self

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from pydantic import BaseModel, ConfigDict
from torch.utils.flop_counter import FlopCounterMode

from batch.engines import usable_engines
from batch.engines.openvino import import_openvino
from batch.engines.versions import engine_and_cpu
from batch.machine.device import choose_device
from bench.flops import ROUNDS, SIDE, measure_peak
from schemas.bundle.metadata import ArtefactMetadata
from schemas.bundle.variants import Precision
from trainer.model.encoders import load_encoder
from trainer.model.multitask import MultiTaskModel

BUSY_WITH: dict[str, Precision] = {"bf16": "bf16", "int8": "int8"}
"""The arithmetic that a way's share is taken of; fp32 for every other."""
INT8_PRODUCTS = 4


class Machine(BaseModel):
    """Where figures were measured. peaks: GFLOP/s of one large matrix product by precision."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cpu: str
    cores: int
    peaks: dict[Precision, float]

    @classmethod
    def measure(cls) -> Self:
        """Take the measure of this machine."""
        return cls(
            cpu=engine_and_cpu(usable_engines("fp32", choose_device("cpu"))[0]),
            cores=len(os.sched_getaffinity(0)),
            peaks={
                "fp32": round(measure_peak(torch.float32)),
                "bf16": round(measure_peak(torch.bfloat16)),
                "int8": round(measure_int8_peak()),
            },
        )

    def peak_of(self, way: str) -> float:
        """GFLOP/s that a way of scoring could reach."""
        return self.peaks[BUSY_WITH.get(way, "fp32")]


def measure_int8_peak() -> float:
    """GOP/s of large products of 8-bit matrices by OpenVINO: the best of some rounds.

    One product after the other, each quantized for the next, as in a model: only then OpenVINO
    keeps to 8 bits.
    """
    core = import_openvino().Core()
    model = core.read_model(_int8_products().SerializeToString())
    request = core.compile_model(model, "CPU").create_infer_request()
    left = np.random.default_rng(1).integers(0, 255, (SIDE, SIDE)).astype(np.float32)
    best = float("inf")
    for _ in range(ROUNDS):
        started = time.perf_counter()
        request.infer({"values": left}, share_inputs=True, share_outputs=True)
        best = min(best, time.perf_counter() - started)
    return INT8_PRODUCTS * 2 * SIDE**3 / best / 1e9


def _int8_products() -> onnx.ModelProto:
    weights = np.random.default_rng(0).integers(-127, 128, (SIDE, SIDE), dtype=np.int8)
    constants: dict[str, np.ndarray[Any, Any]] = {
        "scale": np.array(1.0, np.float32),
        "zero": np.array(128, np.uint8),
        "weights": weights,
        "weights_scale": np.array(1e-4, np.float32),
        "weights_zero": np.array(0, np.int8),
    }
    dequantize = partial(helper.make_node, "DequantizeLinear")
    nodes = [dequantize(["weights", "weights_scale", "weights_zero"], ["wide_weights"])]
    values = "values"
    for number in range(INT8_PRODUCTS):
        bits, wide, product = (f"{name}{number}" for name in ("bits", "wide", "product"))
        nodes += [
            helper.make_node("QuantizeLinear", [values, "scale", "zero"], [bits]),
            dequantize([bits, "scale", "zero"], [wide]),
            helper.make_node("MatMul", [wide, "wide_weights"], [product]),
        ]
        values = product
    graph = helper.make_graph(
        nodes,
        "products",
        [helper.make_tensor_value_info("values", TensorProto.FLOAT, [SIDE, SIDE])],
        [helper.make_tensor_value_info(values, TensorProto.FLOAT, [SIDE, SIDE])],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.checker.check_model(model)
    return model


def forward_mflops(facts: ArtefactMetadata, lengths: Sequence[int]) -> float:
    """MFLOP of a token on average over texts of these lengths, forward only, without padding.

    Counted by torch at two lengths: a text costs a linear and a quadratic share of its length.
    """
    encoder = load_encoder(facts.encoder.source, markers=False, attention="eager")
    model = MultiTaskModel(
        encoder.model, {facts.task: len(facts.labels)}, heads={facts.task: "label_attention"}
    ).eval()
    short, long = 64, 256
    costs = []
    for seq in (short, long):
        input_ids = torch.randint(1000, 2000, (1, seq))
        with FlopCounterMode(display=False) as counter, torch.inference_mode():
            model(input_ids, torch.ones_like(input_ids), facts.task)
        costs.append(counter.get_total_flops())
    quadratic = (costs[1] / long - costs[0] / short) / (long - short)
    linear = costs[0] / short - quadratic * short
    tokens = np.asarray(lengths, dtype=np.float64)
    return float((linear * tokens + quadratic * tokens**2).sum() / tokens.sum() / 1e6)
