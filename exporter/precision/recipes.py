"""How the files of reduced precisions are made, one recipe a precision."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from exporter.graph.trace import GroupGraph
from exporter.precision.fp16 import fuse
from exporter.precision.gate import Reference
from exporter.precision.int8 import make_int8
from schemas.arrays import Int32Array
from schemas.bundle.variants import Precision

FP16_TOLERANCE = 0.05
"""Largest difference of an output between fp16 and torch in fp32. Checked by a CPU, MiniLM was off
by half a percent of the spread of its logits at most; well trained, they spread over ten units."""


@dataclass(frozen=True)
class Ingredients:
    """What a recipe may use.

    graph: of the group in fp32. references: of each task. sample: token ids of training texts.
    layers: of the encoder.
    """

    graph: GroupGraph
    references: Mapping[str, Reference]
    sample: Sequence[Int32Array]
    layers: int


@dataclass(frozen=True)
class ReducedGraph:
    """A graph in a reduced precision. kept_nodes: those that were left in a higher one."""

    graph: GroupGraph
    kept_nodes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Recipe:
    """How a precision is made.

    make: raises ExportError where the graph cannot be reduced; None where the engine reduces it.
    may_fail: such an error leaves the precision out, instead of ending the export.
    torch_tolerance: largest difference of an output from torch, None where the gate alone decides.
    """

    make: Callable[[Ingredients], ReducedGraph] | None = None
    may_fail: bool = False
    torch_tolerance: float | None = None


def _make_fp16(ingredients: Ingredients) -> ReducedGraph:
    return ReducedGraph(fuse(ingredients.graph, layers=ingredients.layers))


def _make_int8(ingredients: Ingredients) -> ReducedGraph:
    graph, kept_nodes = make_int8(ingredients.graph, ingredients.references, ingredients.sample)
    return ReducedGraph(graph, kept_nodes)


RECIPES: Mapping[Precision, Recipe] = MappingProxyType(
    {
        "bf16": Recipe(),
        "fp16": Recipe(_make_fp16, may_fail=True, torch_tolerance=FP16_TOLERANCE),
        "int8": Recipe(_make_int8),
    }
)
