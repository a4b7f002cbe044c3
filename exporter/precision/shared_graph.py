"""Tasks that read the same text: one traced graph, a file of its own for each, one for them all."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from batch.engines.graph_file import GraphFile
from batch.scoring.session import TaskSession
from exporter.precision.devices import checking_device
from exporter.precision.gate import Reference
from schemas.bundle.folder import BundleFiles
from schemas.bundle.variants import Precision
from schemas.text.model_text import TextSpec

MAX_TEXTS = 64
"""Texts on which the shared file is compared with that of each task."""


def text_groups(texts: Mapping[str, TextSpec]) -> list[tuple[str, ...]]:
    """Tasks that read the same text together, in the order of their first."""
    groups: dict[TextSpec, list[str]] = {}
    for task, spec in texts.items():
        groups.setdefault(spec, []).append(task)
    return [tuple(tasks) for tasks in groups.values()]


def other_bits(
    files: BundleFiles, references: Mapping[str, Reference], precision: Precision
) -> str | None:
    """Whose logits the file that tasks share gives with other bits than the task's own file.

    references: of each task, in the order of the group. Returns a message, or None if all agree.
    """
    names = tuple(references)
    first = references[names[0]]
    device, path = checking_device(precision), files.shared(names[0], precision)
    graph = GraphFile.of_path(path)
    together = first.runner(TaskSession(graph, device, precision=precision, tasks=names))
    some = first.texts[:MAX_TEXTS]
    found = together.logits(some)
    ends = np.cumsum([reference.gold.shape[1] for reference in references.values()])
    for task, shared in zip(names, np.split(found, ends[:-1], axis=1), strict=True):
        own = files.onnx(task, precision)
        session = TaskSession(GraphFile.of_path(own), device, precision=precision)
        alone = first.runner(session).logits(some)
        if not np.array_equal(alone, shared):
            return (
                f"{path.name}: logits of task {task!r} differ from those of {own.name} by up to "
                f"{np.abs(alone - shared).max():.1e}, and should have the same bits"
            )
    return None
