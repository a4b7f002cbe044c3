"""The 8-bit graph of a group of tasks, with as few MatMul nodes left in bf16 as its gate allows."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from batch.engines.graph_file import GraphFile
from batch.machine.device import choose_device
from batch.scoring.session import OpenGraph, TaskSession
from exporter.graph.trace import GroupGraph
from exporter.precision.gate import WANTED_CHANGED_ARTICLES, Reference, fit_variant
from exporter.precision.quantize import left_in_bf16, quantize, sweep
from schemas.arrays import Float32Array, Int32Array
from schemas.bundle.facts import VariantCost
from schemas.kinds.base import OutputSpec
from schemas.text.tokens import TokenizedText

log = logging.getLogger(__name__)

SWEPT_TEXTS = 48
"""Held-out texts that the sweep for sensitive MatMul nodes looks at."""


def make_int8(
    graph: GroupGraph, references: Mapping[str, Reference], sample: Sequence[Int32Array]
) -> tuple[GroupGraph, tuple[str, ...]]:
    """Quantize the graph of a group. Returns it, and the MatMul nodes that were left in bf16.

    references: what fp32 says of each task's held-out texts. sample: token ids of training texts.
    None are left first, then more and more in the order of the sweep, until no more than the wanted
    share of the held-out texts has other answers. If none has, as few as pass the gate are left:
    what is left in bf16 is slower. Raises ExportError if nncf is not installed.
    """
    trial = _Trial(graph.tasks, graph.outputs, references)
    with tempfile.TemporaryDirectory() as folder:
        plain, reduced = Path(folder, "fp32.onnx"), Path(folder, "int8.onnx")
        onnx.save(graph.model, plain)
        quantize(plain, reduced, sample)
        model = onnx.load(reduced)
    kept: tuple[str, ...] | None = None
    for tried in _selections(model, trial):
        costs = trial.costs(left_in_bf16(model, tried))
        changed = max(cost.changed_articles for cost in costs)
        problem = trial.problem(costs)
        log.info(
            "int8: %d MatMul nodes in bf16, %.2f %% of the texts have other answers%s",
            len(tried),
            100 * changed,
            f"; {problem}" if problem else "",
        )
        wanted = problem is None and changed <= WANTED_CHANGED_ARTICLES
        if wanted or (problem is None and kept is None):
            kept = tried
        if wanted:
            break
    kept = kept or ()
    return GroupGraph(left_in_bf16(model, kept), graph.tasks, graph.outputs), kept


@dataclass(frozen=True)
class _Trial:
    """Runs graphs of a group on the held-out texts of its tasks."""

    tasks: tuple[str, ...]
    outputs: Mapping[str, OutputSpec]
    references: Mapping[str, Reference]

    def problem(self, costs: Sequence[VariantCost]) -> str | None:
        """The first problem of a task with what a graph costs it, or None."""
        pairs = zip(self.references.values(), costs, strict=True)
        return next(filter(None, (reference.problem(cost) for reference, cost in pairs)), None)

    def costs(self, model: onnx.ModelProto) -> list[VariantCost]:
        """What a graph costs each task."""
        return [
            fit_variant(reference, self._outputs(model, reference, reference.texts)).cost
            for reference in self.references.values()
        ]

    def output_error(self, model: onnx.ModelProto) -> float:
        """Mean distance of outputs from those of fp32, on some texts of each task."""
        distances = []
        for reference in self.references.values():
            rows = np.linspace(0, len(reference.texts) - 1, SWEPT_TEXTS).astype(int).tolist()
            outputs = self._outputs(model, reference, [reference.texts[row] for row in rows])
            errors = [
                np.abs(output - reference.rows.outputs[row]).ravel()
                for row, output in zip(rows, outputs, strict=True)
            ]
            distances.append(float(np.concatenate(errors).mean()))
        return max(distances)

    def _outputs(
        self, model: onnx.ModelProto, reference: Reference, texts: Sequence[TokenizedText]
    ) -> Sequence[Float32Array]:
        task = reference.task
        cut = GroupGraph(model, self.tasks, self.outputs).cut(task)
        graph = GraphFile("tried.onnx", "tried.onnx", cut.SerializeToString)
        opened = OpenGraph.open(graph, choose_device("cpu"), precision="int8")
        session = TaskSession(opened, {task: self.outputs[task].alone})
        (outputs,) = reference.runner(session).outputs(texts)
        return outputs


def _selections(model: onnx.ModelProto, trial: _Trial) -> Iterator[tuple[str, ...]]:
    """MatMul nodes to leave in bf16: none, then more and more, the most sensitive first."""
    yield ()
    log.info("int8: looking for the MatMul nodes that 8 bits harm most")
    order = sweep(model, trial.output_error)
    for count in _growing(len(order)):
        yield tuple(order[:count])


def _growing(count: int) -> list[int]:
    """1, 2, 4, 8, ... and at last half of `count`."""
    half = max(1, count // 2)
    steps = [1 << power for power in range(half.bit_length()) if 1 << power < half]
    return [*steps, half]
