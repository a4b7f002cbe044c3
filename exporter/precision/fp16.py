"""Graphs for CUDA: attention as one operation a layer, and the encoder in fp16.

onnxruntime fuses most of a graph when it opens it, but not into what its CUDA kernels for attention
are fastest with, and it never changes precision: its own optimizer for transformers does both.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from onnx import ModelProto, helper

from exporter.graph.trace import GroupGraph
from schemas.errors import ExportError

ATTENTION, DOMAIN = "Attention", "com.microsoft"
"""Operation that a whole self-attention becomes, and where onnxruntime keeps its own."""
HEADS = "/heads."
"""How names of nodes begin that belong to the heads; see `trainer.model.multitask.JointPath`."""


def fuse(graph: GroupGraph, *, layers: int) -> GroupGraph:
    """A copy of a group's graph for CUDA, with inputs and outputs as they were.

    layers: of the encoder. The heads stay in fp32: they are a small part of the work, and their
    sums over a whole text are where fp16 would be short of digits.
    Raises ExportError if not every layer's attention was recognized: the rest would be slow.
    """
    # Imported late: its package puts a folder of its own on the path for modules.
    from onnxruntime.transformers.fusion_options import FusionOptions
    from onnxruntime.transformers.optimizer import optimize_model

    model = ModelProto()
    model.CopyFrom(graph.model)
    # "bert" stands for every encoder of that shape. Its masks count the tokens of a row, which is
    # right because texts are padded at their end (`schemas.text.tokens.pad`), and what cuDNN's
    # attention asks for; the longer form that also says where rows begin was slower
    # (docs/adr/0011-cuda.md).
    options = FusionOptions("bert")
    with _quiet():
        # Level 0: fused by pattern alone, and not by a session, so alike on every machine.
        fused = optimize_model(model, "bert", optimization_options=options, opt_level=0)
        found = sum(node.op_type == ATTENTION for node in fused.model.graph.node)
        if found != layers:
            raise ExportError(
                f"attention was fused in {found} of {layers} layers",
                hint="onnxruntime knows that of bert, roberta, xlm-roberta, electra and distilbert",
            )
        heads = [n.name for n in fused.model.graph.node if n.name.startswith(HEADS)]
        fused.convert_float_to_float16(keep_io_types=True, node_block_list=heads)
        _drop_repeated_casts(fused.model)
        fused.topological_sort()
    if DOMAIN not in {one.domain for one in fused.model.opset_import}:
        fused.model.opset_import.append(helper.make_opsetid(DOMAIN, 1))
    return GroupGraph(fused.model, graph.tasks, graph.outputs)


def _drop_repeated_casts(model: ModelProto) -> None:
    """Leave one cast of what several nodes in fp32 read: the converter writes it for each of them.

    It also writes down every type that it found, some more than once, and no one needs them.
    """
    written: dict[str, str] = {}
    for node in list(model.graph.node):
        if node.op_type == "Cast" and written.get(node.output[0]) == node.input[0]:
            model.graph.node.remove(node)
        elif node.op_type == "Cast":
            written[node.output[0]] = node.input[0]
    del model.graph.value_info[:]


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the log lines and warnings of the optimizer."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
