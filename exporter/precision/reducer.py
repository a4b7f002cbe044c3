"""Variants of a group of tasks: made, run, and measured against their gate."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence

import numpy as np

from batch.engines import engine_problem
from batch.scoring.runner import GraphRunner
from batch.scoring.session import TaskSession
from exporter.checks.torch_parity import MAX_TEXTS_OF_REDUCED, verify
from exporter.graph.trace import GroupGraph
from exporter.precision.devices import checking_device
from exporter.precision.gate import (
    MAX_CHANGED_ARTICLES,
    Reference,
    fit_variant,
    tokens_per_s,
)
from exporter.precision.recipes import RECIPES, Ingredients
from exporter.precision.shared_graph import task_session
from schemas.arrays import Float32Array, Int32Array
from schemas.bundle.facts import Verification
from schemas.bundle.folder import BundleFiles
from schemas.bundle.metadata import VariantFacts
from schemas.bundle.variants import PRECISION_SPECS, Precision
from schemas.errors import BundleError, ExportError
from schemas.text.tokens import TokenizedText
from trainer.model.multitask import TaskPath

log = logging.getLogger(__name__)

ALONE_TEXTS = 16
"""Texts that are scored alone and among others."""


class Reducer:
    """Makes the reduced variants of one group of tasks.

    references, models: of each task, what fp32 gives for its held-out texts, and its torch model.
    sample: token ids of training texts.
    speeds: tokens/s over those of fp32 on the same device, for precisions that a task passed with;
    they are not written into the files, which are the same for every export of a checkpoint. One
    task is timed for all, because the encoder takes most of the time. A precision for CUDA that was
    checked by a CPU counts as faster than anything: no device has to choose between it and the
    rest.
    """

    def __init__(
        self,
        graph: GroupGraph,
        files: BundleFiles,
        references: Mapping[str, Reference],
        models: Mapping[str, TaskPath],
        sample: Sequence[Int32Array],
    ) -> None:
        self.speeds: dict[Precision, float] = {}
        self._graph, self._files = graph, files
        self._references, self._models, self._sample = references, models, sample

    def make(self, precision: Precision) -> dict[str, VariantFacts]:
        """Write the files of a precision, and measure what it costs each task.

        A task is left out where its variant does not pass the gate, and its file is removed.
        Raises ExportError if the precision is not available here.
        """
        spec = PRECISION_SPECS[precision]
        problem = engine_problem(spec.engines[-1], precision)
        if problem is not None:
            raise ExportError(f"precision {precision} cannot be checked: {problem}")
        kept_nodes = self._write(precision)
        if kept_nodes is None:
            return {}
        passed = {}
        for task, reference in self._references.items():
            facts = self._measure(task, reference, precision, kept_nodes)
            if facts is not None:
                passed[task] = facts
            elif spec.has_own_file:
                self._files.onnx(task, precision).unlink()
        if spec.has_own_file and len(passed) < len(self._references):
            self._files.shared(self._graph.tasks[0], precision).unlink(missing_ok=True)
        if passed:
            self.speeds[precision] = self._speed(next(iter(passed)), precision)
        return passed

    def _write(self, precision: Precision) -> tuple[str, ...] | None:
        """Write the files; returns the nodes left in a higher precision, None if none is made."""
        recipe = RECIPES[precision]
        if recipe.make is None:
            return ()
        layers = next(iter(self._models.values())).config.num_hidden_layers
        try:
            reduced = recipe.make(Ingredients(self._graph, self._references, self._sample, layers))
        except ExportError as error:
            if not recipe.may_fail:
                raise
            log.info("%s, %s: left out: %s", ", ".join(self._graph.tasks), precision, error)
            return None
        reduced.graph.write(self._files, precision)
        return reduced.kept_nodes

    def _measure(
        self, task: str, reference: Reference, precision: Precision, kept_nodes: tuple[str, ...]
    ) -> VariantFacts | None:
        """Cost of a task's variant, or None where it may not be published."""
        device = checking_device(precision)
        try:
            path = self._files.onnx(task, precision)
            session = task_session(path, reference, device, precision=precision)
            runner = reference.runner(session)
            verification = self._verify(reference, precision, session, runner)
        except (BundleError, ExportError) as error:  # its engine lacks an operation, or it is off
            log.info("%s, %s: left out: %s", task, precision, error)
            return None
        (outputs,) = runner.outputs(reference.texts)
        facts = fit_variant(reference, outputs, kept_nodes=kept_nodes, device=device.kind)
        facts = facts.model_copy(update={"verification": verification})
        problem = reference.problem(facts.cost) or _depends_on_other_rows(
            runner, reference.texts, outputs
        )
        log.info(
            "%s, %s: changes the answers to %.2f %% of the texts, output error at most %.4f%s",
            task,
            precision,
            100 * facts.cost.changed_articles,
            facts.cost.output_error_max,
            f"; not published: {problem}" if problem else "",
        )
        return None if problem else facts

    def _speed(self, task: str, precision: Precision) -> float:
        """Speed of a precision over that of fp32, by the texts and the file of one task."""
        device, reference = checking_device(precision), self._references[task]
        if device.kind != PRECISION_SPECS[precision].only_on:
            log.info("%s, %s: checked by the CPU", ", ".join(self._graph.tasks), precision)
            return math.inf
        reduced, fp32 = (
            tokens_per_s(
                reference.runner(task_session(path, reference, device, precision=name)),
                reference.texts,
            )
            for path, name in (
                (self._files.onnx(task, precision), precision),
                (self._files.onnx(task), "fp32"),
            )
        )
        log.info(
            "%s, %s: %.1f times as fast as fp32",
            ", ".join(self._graph.tasks),
            precision,
            reduced / fp32,
        )
        return reduced / fp32

    def _verify(
        self, reference: Reference, precision: Precision, session: TaskSession, runner: GraphRunner
    ) -> Verification | None:
        """Compare a file with torch, where its recipe asks for that. Raises ExportError."""
        tolerance = RECIPES[precision].torch_tolerance
        if tolerance is None:
            return None
        return verify(
            session,
            self._models[reference.task],
            runner,
            reference.texts,
            lambda outputs, texts: reference.decide(outputs, reference.fitted.decision, texts),
            tolerance=tolerance,
            max_differing=MAX_CHANGED_ARTICLES,
            max_texts=MAX_TEXTS_OF_REDUCED,
        )


def _depends_on_other_rows(
    runner: GraphRunner, texts: Sequence[TokenizedText], outputs: Sequence[Float32Array]
) -> str | None:
    """Why a variant cannot keep "same article, same score", or None if it can."""
    (backwards,) = runner.outputs(texts[::-1])
    if not _all_equal(backwards[::-1], outputs):
        return "scores depend on the order of the texts"
    for row in np.linspace(0, len(texts) - 1, min(ALONE_TEXTS, len(texts))).astype(int):
        (alone,) = runner.outputs([texts[row]])
        if not np.array_equal(alone[0], outputs[row]):
            return "scores of a text alone differ from those among others"
    return None


def _all_equal(ours: Sequence[Float32Array], theirs: Sequence[Float32Array]) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))
