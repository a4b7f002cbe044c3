"""Reduced precision: which variants of a group of tasks are faster and pass their gate."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from batch.engines import engine_problem
from batch.machine.cpu import cpu_features
from batch.machine.device import choose_device, cuda_problem
from batch.scoring.precision import precision_problem
from batch.scoring.runner import GraphRunner
from batch.scoring.session import TaskSession
from exporter.checks.torch_parity import verify
from exporter.graph.trace import GroupGraph, embed_metadata
from exporter.precision.devices import checking_device
from exporter.precision.fp16 import fuse
from exporter.precision.gate import (
    MAX_CHANGED_ARTICLES,
    Reference,
    fit_variant,
    gate,
    tokens_per_s,
)
from exporter.precision.int8 import make_int8
from exporter.precision.shared_graph import shared_mismatch, task_session
from schemas.arrays import Float32Array, Int32Array
from schemas.bundle.facts import Verification
from schemas.bundle.folder import BundleFiles, SharedGraph
from schemas.bundle.metadata import VariantFacts, VariantMetadata
from schemas.bundle.probes import Probes
from schemas.bundle.variants import ENGINES, ONLY_ON, OWN_FILE, PRECISIONS, Precision
from schemas.errors import BundleError, ExportError
from schemas.text.tokens import TokenizedText
from trainer.model.multitask import TaskPath

log = logging.getLogger(__name__)

MARGIN = 1.15
"""Times that a coarser precision must be faster to be taken without being asked for."""
ALONE_TEXTS = 16
"""Texts that are scored alone and among others."""
FP16_TOLERANCE = 0.05
"""Largest difference of a logit between fp16 and torch in fp32. Checked by a CPU, MiniLM was off by
half a percent of the spread of its logits at most; well trained, they spread over ten units."""


def available_precisions() -> tuple[Precision, ...]:
    """What this machine can run, and so makes without being asked, beside fp32: bf16 and fp16."""
    found: list[Precision] = ["fp32"]
    if cuda_problem() is None:
        found.append("fp16")
    problem = precision_problem("bf16", choose_device("cpu"))
    if problem is None:
        found.append("bf16")
    else:
        log.info("bf16 is left out: %s", problem)
    features = cpu_features()
    if any("VNNI" in name for name in features) and "AMX int8" not in features:
        more = ",".join([*found[1:], "int8"])
        log.info("int8 may be faster still on this CPU: --precision %s tries it too", more)
    return tuple(found)


@dataclass(frozen=True)
class ExportedTask:
    """A task whose fp32 file is written and checked.

    metadata: of its files, once their variants are known. reference: outputs of that file for real
    texts. model: the torch model that it was made of.
    """

    metadata: VariantMetadata
    probes: Probes
    reference: Reference
    model: TaskPath


@dataclass(frozen=True)
class ExportedGroup:
    """Tasks that read the same text, with their files by precision, the fastest first.

    shared: the graph of two tasks and more.
    """

    tasks: Mapping[str, ExportedTask]
    files: Mapping[str, dict[Precision, str]]
    shared: SharedGraph | None


def finish_group(
    graph: GroupGraph,
    files: BundleFiles,
    tasks: Mapping[str, ExportedTask],
    sample: Sequence[Int32Array],
    precisions: Sequence[Precision],
) -> ExportedGroup:
    """Make the reduced precisions of a group, and let every file say what it is.

    sample: token ids of training texts. Raises ExportError if a precision is not available here, or
    if the fp32 file that tasks share has other bits than their own.
    """
    reducer = Reducer(graph, files, tasks, sample)
    reduced = [each for each in precisions if each != "fp32"]
    made: dict[Precision, dict[str, VariantFacts]] = {each: reducer.make(each) for each in reduced}
    finished, order = {}, {}
    for task, about in tasks.items():
        facts: dict[Precision, VariantFacts] = {
            each: found[task] for each, found in made.items() if task in found
        }
        finished[task] = replace(about, metadata=about.metadata.fp32.with_variants(facts))
        order[task] = _fastest_first({each: reducer.speeds[task, each] for each in facts})
        for each in order[task]:
            embed_metadata(files.onnx(task, each), [finished[task].metadata.of_file(each)])
    names = {task: {each: files.onnx(task, each).name for each in order[task]} for task in tasks}
    shared = _share(files, finished, order) if len(tasks) > 1 else None
    return ExportedGroup(finished, names, shared)


def _share(
    files: BundleFiles,
    tasks: Mapping[str, ExportedTask],
    order: Mapping[str, Sequence[Precision]],
) -> SharedGraph:
    """Finish the files that the tasks of a group share, in the precisions that all of them have."""
    names = tuple(tasks)
    references = {task: about.reference for task, about in tasks.items()}
    published: dict[Precision, str] = {}
    for each in order[names[0]]:
        if not all(each in order[task] for task in names):
            continue
        problem = shared_mismatch(files, references, each)
        if problem and each == "fp32":
            raise ExportError(
                f"{problem}; nothing was published",
                hint="please report it with the encoder's type",
            )
        if problem:
            log.info("%s; %s is published for each task alone", problem, each)
            if each in OWN_FILE:
                files.shared(names[0], each).unlink()
            continue
        path = files.shared(names[0], each)
        embed_metadata(path, [about.metadata.of_file(each) for about in tasks.values()])
        published[each] = path.name
    return SharedGraph(tasks=names, files=published)


def _fastest_first(speeds: Mapping[Precision, float]) -> list[Precision]:
    """Precisions with fp32 among them, which has speed 1; the finer first where it hardly matters.

    What is not faster by a margin is not worth what it costs, and a coarse order comes out the same
    each time it is measured.
    """
    order: list[Precision] = ["fp32"]
    for each in PRECISIONS:
        if each in speeds:
            place = next(
                (
                    place
                    for place, other in enumerate(order)
                    if speeds[each] > MARGIN * speeds.get(other, 1.0)
                ),
                len(order),
            )
            order.insert(place, each)
    return order


class Reducer:
    """Makes the reduced variants of one group of tasks.

    tasks: with what fp32 says of each one's held-out texts. sample: training texts.
    speeds: tokens a second over those of fp32 on the same device, for what passed; kept out of the
    files, which are the same for every export of a checkpoint. What is for CUDA and was checked by
    a CPU is taken for faster than anything: no device has to choose between it and the rest.
    """

    def __init__(
        self,
        graph: GroupGraph,
        files: BundleFiles,
        tasks: Mapping[str, ExportedTask],
        sample: Sequence[Int32Array],
    ) -> None:
        self.speeds: dict[tuple[str, Precision], float] = {}
        self._graph, self._files = graph, files
        self._references = {task: about.reference for task, about in tasks.items()}
        self._models = {task: about.model for task, about in tasks.items()}
        self._sample = sample

    def make(self, precision: Precision) -> dict[str, VariantFacts]:
        """Write the files of a precision, and measure what it costs each task.

        A task is left out where its variant does not pass the gate, and its file is removed.
        Raises ExportError if the precision is not available here.
        """
        problem = engine_problem(ENGINES[precision][-1], precision)
        if problem is not None:
            raise ExportError(f"precision {precision} cannot be checked: {problem}")
        kept_nodes: tuple[str, ...] = ()
        if precision == "int8":
            quantized, kept_nodes = make_int8(self._graph, self._references, self._sample)
            quantized.write(self._files, precision)
        elif precision == "fp16":
            layers = next(iter(self._models.values())).config.num_hidden_layers
            try:
                fuse(self._graph, layers=layers).write(self._files, precision)
            except ExportError as error:
                log.info("%s, fp16: left out: %s", ", ".join(self._graph.tasks), error)
                return {}
        found = {}
        for task, reference in self._references.items():
            facts = self._measured(task, reference, precision, kept_nodes)
            if facts is not None:
                found[task] = facts
            elif precision in OWN_FILE:
                self._files.onnx(task, precision).unlink()
        if precision in OWN_FILE and len(found) < len(self._references):
            self._files.shared(self._graph.tasks[0], precision).unlink(missing_ok=True)
        return found

    def _measured(
        self, task: str, reference: Reference, precision: Precision, kept_nodes: tuple[str, ...]
    ) -> VariantFacts | None:
        """Costs of a task's variant, or None where it may not be published."""
        texts, device = reference.texts, checking_device(precision)
        try:
            path = self._files.onnx(task, precision)
            session = task_session(path, reference, device, precision=precision)
        except BundleError as error:  # its engine lacks an operation
            log.info("%s, %s: left out: %s", task, precision, error)
            return None
        runner = reference.runner(session)
        verification = None
        if precision == "fp16":
            try:
                verification = self._verified(task, session, runner)
            except ExportError as error:
                log.info("%s, fp16: left out: %s", task, error)
                return None
        (outputs,) = runner.outputs(texts)
        facts = fit_variant(reference, outputs, kept_nodes=kept_nodes, device=device.kind)
        facts = facts.model_copy(update={"verification": verification})
        problem = gate(facts.cost) or _depends_on_other_rows(runner, texts, outputs)
        speed = math.inf
        if device.kind == ONLY_ON[precision]:
            fp32 = task_session(self._files.onnx(task), reference, device, precision="fp32")
            plain = reference.runner(fp32)
            speed = tokens_per_s(runner, texts) / tokens_per_s(plain, texts)
        log.info(
            "%s, %s: %s, changes the labels of %.2f %% of the texts, output error at most %.4f%s",
            task,
            precision,
            f"{speed:.1f} times as fast" if speed < math.inf else "checked by the CPU",
            100 * facts.cost.changed_articles,
            facts.cost.output_error_max,
            f"; not published: {problem}" if problem else "",
        )
        if problem:
            return None
        self.speeds[task, precision] = speed
        return facts

    def _verified(self, task: str, session: TaskSession, runner: GraphRunner) -> Verification:
        """Compare a file of its own with torch. Raises ExportError if it is too far off."""
        reference = self._references[task]
        return verify(
            session,
            self._models[task],
            runner,
            reference.texts,
            lambda outputs, texts: reference.decide(outputs, reference.fitted.decision, texts),
            tolerance=FP16_TOLERANCE,
            max_differing=MAX_CHANGED_ARTICLES,
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
    return all(np.array_equal(one, other) for one, other in zip(ours, theirs, strict=True))
