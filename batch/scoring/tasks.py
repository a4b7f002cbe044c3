"""Which tasks of a bundle a run scores."""

from __future__ import annotations

from batch.machine.device import Device
from batch.scoring.session import open_session
from schemas.bundle.folder import Bundle
from schemas.errors import UsageError, listing
from schemas.text.model_text import TextSpec


def select_tasks(bundle: Bundle, wanted: str) -> tuple[str, ...]:
    """The tasks that --task names, which a bundle can score in one pass.

    Raises UsageError for tasks that are not there or that read different texts.
    """
    tasks = bundle.select(wanted)
    try:
        bundle.precisions(tasks)
    except UsageError:
        _refuse_different_texts(bundle, tasks)
        raise
    return tasks


def _refuse_different_texts(bundle: Bundle, tasks: tuple[str, ...]) -> None:
    cpu = Device("cpu", 0, "to read what files say of themselves")
    readers: dict[TextSpec, list[str]] = {}
    for task in tasks:
        _, (metadata,) = open_session(bundle, (task,), cpu, precision="fp32", threads=1)
        readers.setdefault(metadata.text, []).append(task)
    if len(readers) > 1:
        parts = "; ".join(f"{listing(names)}: {_reads(text)}" for text, names in readers.items())
        runs = ", then ".join(f"--task {','.join(names)}" for names in readers.values())
        raise UsageError(
            f"--task {','.join(tasks)}: one pass can only score tasks that read the same text; "
            f"{parts}",
            hint=f"run them separately: {runs}",
        )


def _reads(text: TextSpec) -> str:
    parts = f"title, {text.separator!r} and body" if text.title else "body"
    return parts + (" with an entity marked" if text.entity_markers else "")
