"""Eight-bit graphs: static ranges from training texts, sensitive matmuls left in bf16.

The ranges of activations are found once on training texts and stored in the graph. In dynamic
quantization, a tensor has one range, so the scores of a text depend on the other rows of its batch.
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
    """Names of the MatMul nodes with 8-bit activations, in the order of the graph."""
    makers = _makers(model)
    return [
        node.name
        for node in model.graph.node
        if node.op_type in MATMULS and any(_quantized_inputs(node, makers))
    ]


def left_in_bf16(model: ModelProto, names: Sequence[str]) -> ModelProto:
    """A copy whose named nodes read activations that are not rounded to 8 bits.

    Weights stay in 8 bits: a range a channel costs little, and the file stays small.
    """
    copy = ModelProto()
    copy.CopyFrom(model)
    makers = _makers(copy)
    for node in copy.graph.node:
        if node.name in names:
            for position, source in _quantized_inputs(node, makers):
                node.input[position] = source
    _drop_unused(copy)
    return copy


def sweep(model: ModelProto, output_error: Callable[[ModelProto], float]) -> list[str]:
    """Order MatMul nodes by the output error that is left if only that node stays in bf16.

    output_error: of a graph against fp32. Returns names, the most sensitive node first.
    """
    errors = {name: output_error(left_in_bf16(model, [name])) for name in quantized_matmuls(model)}
    return sorted(errors, key=errors.__getitem__)


def _makers(model: ModelProto) -> dict[str, NodeProto]:
    return {output: node for node in model.graph.node for output in node.output}


def _quantized_inputs(node: NodeProto, makers: dict[str, NodeProto]) -> Iterator[tuple[int, str]]:
    """Inputs of a node that are rounded to 8 bits: their positions and unrounded sources."""
    for position, name in enumerate(node.input):
        dequantize = makers.get(name)
        if dequantize is None or dequantize.op_type != DEQUANTIZE:
            continue
        quantize_node = makers.get(dequantize.input[0])
        if quantize_node is not None and quantize_node.op_type == QUANTIZE:  # not a stored weight
            yield position, quantize_node.input[0]


def _drop_unused(model: ModelProto) -> None:
    """Remove quantization nodes whose output is not read."""
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
