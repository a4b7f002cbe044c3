"""Reduced precision: which variants of a group of tasks are faster and pass their gate."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from batch.machine.cpu import cpu_features
from batch.machine.device import choose_device, cuda_problem
from batch.scoring.precision import precision_problem
from exporter.graph.trace import GroupGraph, embed_metadata
from exporter.precision.gate import Reference
from exporter.precision.reducer import Reducer
from exporter.precision.shared_graph import shared_mismatch
from schemas.arrays import Int32Array
from schemas.bundle.folder import BundleFiles, SharedGraph
from schemas.bundle.metadata import VariantFacts, VariantMetadata
from schemas.bundle.probes import Probes
from schemas.bundle.variants import PRECISION_SPECS, PRECISIONS, Precision
from schemas.errors import ExportError
from trainer.model.multitask import TaskPath

log = logging.getLogger(__name__)

MARGIN = 1.15
"""Times that a coarser precision must be faster to be taken without being asked for."""


def available_precisions() -> tuple[Precision, ...]:
    """Precisions that this machine can run, and so makes by default: fp16 and bf16 beside fp32."""
    precisions: list[Precision] = ["fp32"]
    if cuda_problem() is None:
        precisions.append("fp16")
    problem = precision_problem("bf16", choose_device("cpu"))
    if problem is None:
        precisions.append("bf16")
    else:
        log.info("bf16 is left out: %s", problem)
    features = cpu_features()
    if any("VNNI" in name for name in features) and "AMX int8" not in features:
        more = ",".join([*precisions[1:], "int8"])
        log.info("int8 may be faster still on this CPU: --precision %s tries it too", more)
    return tuple(precisions)


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
    """Make the reduced precisions of a group, and write the metadata of every file.

    sample: token ids of training texts. Raises ExportError if a precision is not available here, or
    if outputs of the fp32 file that tasks share differ from those of their own.
    """
    references = {task: exported.reference for task, exported in tasks.items()}
    models = {task: exported.model for task, exported in tasks.items()}
    reducer = Reducer(graph, files, references, models, sample)
    variants = {
        precision: reducer.make(precision) for precision in precisions if precision != "fp32"
    }
    finished, order = {}, {}
    for task, exported in tasks.items():
        facts: dict[Precision, VariantFacts] = {
            precision: by_task[task] for precision, by_task in variants.items() if task in by_task
        }
        metadata = exported.metadata.fp32.with_variants(facts)
        finished[task] = replace(exported, metadata=metadata)
        order[task] = _fastest_first({name: reducer.speeds[name] for name in facts})
        for precision in order[task]:
            embed_metadata(files.onnx(task, precision), [metadata.of_file(precision)])
    names = {
        task: {precision: files.onnx(task, precision).name for precision in order[task]}
        for task in tasks
    }
    shared = _share(files, finished, order) if len(tasks) > 1 else None
    return ExportedGroup(finished, names, shared)


def _share(
    files: BundleFiles,
    tasks: Mapping[str, ExportedTask],
    order: Mapping[str, Sequence[Precision]],
) -> SharedGraph:
    """Finish the files that the tasks of a group share, in the precisions that all of them have."""
    names = tuple(tasks)
    references = {task: exported.reference for task, exported in tasks.items()}
    published: dict[Precision, str] = {}
    for precision in order[names[0]]:
        if not all(precision in order[task] for task in names):
            continue
        path = files.shared(names[0], precision)
        problem = shared_mismatch(files, references, precision)
        if problem and precision == "fp32":
            raise ExportError(
                f"{problem}; nothing was published",
                hint="please report it with the encoder's type",
            )
        if problem:
            log.info("%s; %s is published for each task alone", problem, precision)
            if PRECISION_SPECS[precision].has_own_file:
                path.unlink()
            continue
        metadata = [exported.metadata.of_file(precision) for exported in tasks.values()]
        embed_metadata(path, metadata)
        published[precision] = path.name
    return SharedGraph(tasks=names, files=published)


def _fastest_first(speeds: Mapping[Precision, float]) -> list[Precision]:
    """Precisions with fp32 among them, which has speed 1; the finer first where it hardly matters.

    What is not faster by a margin is not worth what it costs, and a coarse order comes out the same
    each time it is measured.
    """
    order: list[Precision] = ["fp32"]
    for precision in PRECISIONS:
        if precision not in speeds:
            continue
        is_slower = (speeds[precision] > MARGIN * speeds.get(other, 1.0) for other in order)
        position = next((at for at, faster in enumerate(is_slower) if faster), len(order))
        order.insert(position, precision)
    return order
