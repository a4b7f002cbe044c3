"""Tasks that read the same text: one traced graph, a file of its own for each, one for them all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from batch.device import choose_device
from batch.scorer import LogitRunner, load_tokenizer
from batch.session import TaskSession
from exporter.graph import embed_shared_metadata
from schemas.bundle import BundleFiles
from schemas.errors import ExportError
from schemas.metadata import ArtefactMetadata
from schemas.text import ModelText, TextSpec
from schemas.variants import Precision

MAX_TEXTS = 64
"""Texts on which the shared file is compared with that of each task."""


def text_groups(texts: Mapping[str, TextSpec]) -> list[tuple[str, ...]]:
    """Tasks that read the same text together, in the order of their first."""
    groups: dict[TextSpec, list[str]] = {}
    for task, spec in texts.items():
        groups.setdefault(spec, []).append(task)
    return [tuple(tasks) for tasks in groups.values()]


def finish_shared(
    files: BundleFiles,
    tasks: Sequence[ArtefactMetadata],
    texts: Sequence[ModelText],
    *,
    precision: Precision = "fp32",
) -> None:
    """Let the file that tasks share say what it is, and hold it to the files of each task.

    tasks: in the order of the group. texts: real ones, of which some are run through all files.
    Raises ExportError if the logits of a task do not have the same bits in both.
    """
    names = tuple(about.task for about in tasks)
    path = files.shared(names[0], precision)
    embed_shared_metadata(path, tasks)
    device, tokenizer = choose_device("cpu"), load_tokenizer(files.tokenizer)

    def runner(session: TaskSession) -> LogitRunner:
        first = tasks[0]
        return LogitRunner(session, tokenizer, max_tokens=first.max_tokens, pad_id=first.pad_id)

    together = runner(TaskSession(path, device, precision=precision, tasks=names))
    some = together.tokenise(texts[:MAX_TEXTS])
    found = together.logits(some)
    ends = np.cumsum([len(about.labels) for about in tasks])
    for task, shared in zip(names, np.split(found, ends[:-1], axis=1), strict=True):
        own = files.onnx(task, precision)
        alone = runner(TaskSession(own, device, precision=precision)).logits(some)
        if not np.array_equal(alone, shared):
            raise ExportError(
                f"{path.name}: logits of task {task!r} differ from those of {own.name} by up to "
                f"{np.abs(alone - shared).max():.1e}, and should have the same bits; nothing was "
                "published",
                hint="this engine treats the two graphs differently; please report it with the "
                "encoder's type",
            )
