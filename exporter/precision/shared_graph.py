"""Tasks that read the same text: one traced graph, a file of its own for each, one for them all."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from batch.engines.graph_file import GraphFile
from batch.machine.device import Device
from batch.scoring.session import OpenGraph, TaskSession, output_in_graph
from exporter.checks.torch_parity import spread
from exporter.precision.devices import checking_device
from exporter.precision.gate import Reference
from schemas.bundle.folder import BundleFiles
from schemas.bundle.variants import Precision
from schemas.kinds.base import OutputSpec
from schemas.text.windows import layout_of
from trainer.checkpoint.reader import CheckpointTask


def text_groups(tasks: Mapping[str, CheckpointTask]) -> list[tuple[str, ...]]:
    """Tasks that read the same text together, in the order of their first."""
    groups: dict[object, list[str]] = {}
    for name, task in tasks.items():
        groups.setdefault((task.text, layout_of(task.windows)), []).append(name)
    return [tuple(names) for names in groups.values()]


def task_session(
    path: Path, reference: Reference, device: Device, *, precision: Precision
) -> TaskSession:
    """A session of the file of one task, whose metadata is not written yet."""
    opened = OpenGraph.open(GraphFile.of_path(path), device, precision=precision)
    return TaskSession(opened, {reference.task: reference.output})


def _all_outputs(
    path: Path,
    references: Mapping[str, Reference],
    device: Device,
    *,
    precision: Precision,
    tasks: int,
) -> TaskSession:
    """A session of tasks in a file of so many, which also names their nearest reference texts."""
    opened = OpenGraph.open(GraphFile.of_path(path), device, precision=precision)
    outputs: dict[str, OutputSpec] = {}
    for task, reference in references.items():
        output = reference.output.with_neighbours(reference.neighbours)
        outputs[task] = output_in_graph(output, task, tasks=tasks)
    return TaskSession(opened, outputs)


def shared_mismatch(
    files: BundleFiles, references: Mapping[str, Reference], precision: Precision
) -> str | None:
    """The task whose outputs by the shared file differ from those by its own file.

    references: of each task, in the order of the group. Returns a message, or None if all agree to
    the last bit.
    """
    names = tuple(references)
    first = references[names[0]]
    device, path = checking_device(precision), files.shared(names[0], precision)
    texts = spread(first.texts)
    session = _all_outputs(path, references, device, precision=precision, tasks=len(names))
    together = first.runner(session).outputs(texts)
    for (task, reference), shared in zip(references.items(), together, strict=True):
        own = files.onnx(task, precision)
        session = _all_outputs(own, {task: reference}, device, precision=precision, tasks=1)
        (alone,) = first.runner(session).outputs(texts)
        pairs = list(zip(alone, shared, strict=True))
        if not all(np.array_equal(one, other) for one, other in pairs):
            difference = max(float(np.abs(one - other).max()) for one, other in pairs)
            return (
                f"{path.name}: outputs of task {task!r} differ from those of {own.name} by up to "
                f"{difference:.1e}, and should have the same bits"
            )
    return None
