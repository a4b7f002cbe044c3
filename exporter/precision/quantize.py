"""Eight-bit graphs: static ranges from training texts, sensitive matmuls left in bf16.

The ranges of activations are found once on training texts and stored in the graph, unlike dynamic
quantization, whose one range a tensor makes the scores of a text depend on the other rows of its batch.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto, NodeProto

from batch.engines.openvino import import_openvino
from schemas.arrays import Int32Array
from schemas.errors import ExportError

log = logging.getLogger(__name__)

MATMULS = ("MatMul", "Gemm")
"""Operations that 8 bits make faster."""
QUANTIZE, DEQUANTIZE = "QuantizeLinear", "DequantizeLinear"


def quantize(graph: Path, output: Path, texts: Sequence[Int32Array]) -> None:
    """Write a graph with 8-bit weights and activations, by nncf's post-training quantization.

    texts: token ids of training texts, each (seq,) int32; their activations give the ranges.
    Raises ExportError if nncf is not installed.
    """
    try:
        import_openvino()
        import nncf
    except ImportError as error:
        raise ExportError(
            f"int8 needs nncf: {error}", hint="pip install 'narrascan[int8]'"
        ) from error
    inputs = [
        {
            "input_ids": ids[None].astype(np.int64),
            "attention_mask": np.ones((1, len(ids)), np.int64),
        }
        for ids in texts
    ]
    level = logging.getLogger("nncf").level
    nncf.set_log_level(logging.ERROR)
    try:
        quantized = nncf.quantize(
            onnx.load(graph),
            nncf.Dataset(inputs),
            model_type=nncf.ModelType.TRANSFORMER,
            subset_size=len(inputs),
        )
    finally:
        nncf.set_log_level(level)
    onnx.save(quantized, output)


def quantized_matmuls(model: ModelProto) -> list[str]:
    """Names of the matrix matmuls with 8-bit activations, in the order of the graph."""
    makers = _makers(model)
    return [
        node.name
        for node in model.graph.node
        if node.op_type in MATMULS and any(_quantized_inputs(node, makers))
    ]


def left_in_bf16(model: ModelProto, names: Sequence[str]) -> ModelProto:
    """A copy whose named matmuls read their activations as they come, not rounded to 8 bits.

    Weights stay in 8 bits: a range a channel costs little, and the file stays small.
    """
    loosened = ModelProto()
    loosened.CopyFrom(model)
    makers = _makers(loosened)
    for node in loosened.graph.node:
        if node.name in names:
            for place, source in _quantized_inputs(node, makers):
                node.input[place] = source
    _drop_unused(loosened)
    return loosened


def sweep(model: ModelProto, drift: Callable[[ModelProto], float]) -> list[str]:
    """Order the matmuls by how much closer the scores come when each alone is left in bf16.

    drift: distance of a graph's scores from those of fp32. Returns names, the most sensitive first.
    """
    without = {name: drift(left_in_bf16(model, [name])) for name in quantized_matmuls(model)}
    return sorted(without, key=without.__getitem__)


def _makers(model: ModelProto) -> dict[str, NodeProto]:
    return {output: node for node in model.graph.node for output in node.output}


def _quantized_inputs(node: NodeProto, makers: dict[str, NodeProto]) -> Iterator[tuple[int, str]]:
    """Inputs of a node that were rounded to 8 bits on the way: their places, and what they were."""
    for place, name in enumerate(node.input):
        widened = makers.get(name)
        if widened is None or widened.op_type != DEQUANTIZE:
            continue
        rounded = makers.get(widened.input[0])
        if rounded is not None and rounded.op_type == QUANTIZE:  # a weight has none: it is stored
            yield place, rounded.input[0]


def _drop_unused(model: ModelProto) -> None:
    """Remove rounding that nothing reads any more."""
    while True:
        read = {name for node in model.graph.node for name in node.input}
        read |= {output.name for output in model.graph.output}
        unused = [
            node
            for node in model.graph.node
            if node.op_type in (QUANTIZE, DEQUANTIZE) and not read.intersection(node.output)
        ]
        if not unused:
            return
        for node in unused:
            model.graph.node.remove(node)
