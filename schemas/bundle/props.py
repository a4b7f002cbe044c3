"""Metadata as `metadata_props` of an ONNX file: one JSON text a field, under a prefix.

A file of one task has the keys `narrascan.FIELD`; one that tasks share, `narrascan.TASK.FIELD`.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence

from pydantic import ValidationError

from schemas.bundle.metadata import ArtefactMetadata, check_task, metadata_model
from schemas.errors import BundleError, listing
from schemas.io.json_values import parse_json
from schemas.kinds import KINDS
from schemas.kinds.base import OutputSpec
from schemas.printable import printable
from schemas.validation import validation_problems
from schemas.version import check_version

PREFIX = "narrascan."

MAX_SHOWN_CHARS = 80


def output_name(output: OutputSpec, task: str, *, tasks: int) -> str:
    """Name of a task's output in a graph of so many tasks."""
    return output.name if tasks == 1 else f"{output.name}.{task}"


def to_props(tasks: Sequence[ArtefactMetadata]) -> dict[str, str]:
    """Metadata of the tasks of a graph, as its file has it."""
    return {
        _prefix(metadata.task, tasks=len(tasks)) + field: json.dumps(value, ensure_ascii=False)
        for metadata in tasks
        for field, value in metadata.model_dump(mode="json").items()
    }


def from_props(props: Mapping[str, str], *, source: str) -> dict[str, ArtefactMetadata]:
    """Metadata of each task of a file, by task.

    Raises BundleError if the file says nothing of itself, says something that is not valid, or was
    written by a newer version.
    """
    alone: dict[str, object] = {}
    shared: dict[str, dict[str, object]] = defaultdict(dict)
    for key, value in _own_props(props, source).items():
        task, dot, field = key.partition(".")
        if dot:
            shared[task][field] = value
        else:
            alone[key] = value
    if alone:
        metadata = _parse(alone, source)
        return {metadata.task: metadata}
    tasks = {}
    for task, fields in shared.items():
        label = f"{source}: {printable(PREFIX + task)}"
        tasks[task] = _parse(fields, label)
        check_task(tasks[task], task, source=label)
    return tasks


def _prefix(task: str, *, tasks: int) -> str:
    return PREFIX if tasks == 1 else f"{PREFIX}{task}."


def _parse(stored: Mapping[str, object], source: str) -> ArtefactMetadata:
    """Check what a file says of one task (BundleError)."""
    check_version(stored.get("schema_version"), source=source)
    kind = stored.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        raise BundleError(
            f"{source}: metadata is not valid: kind is {printable(repr(kind))[:MAX_SHOWN_CHARS]}, "
            f"expected one of {listing(KINDS)}",
            hint="export the checkpoint again, or upgrade narrascan",
        )
    try:
        return metadata_model(kind).model_validate(stored)
    except ValidationError as error:
        raise BundleError(
            f"{source}: metadata is not valid: {validation_problems(error, 'metadata')}",
            hint="export the checkpoint again",
        ) from error


def _own_props(props: Mapping[str, str], source: str) -> dict[str, object]:
    """What stands under the prefix, parsed; BundleError if nothing does or it is not JSON."""
    parsed: dict[str, object] = {}
    for key, value in props.items():
        if key.startswith(PREFIX):
            try:
                parsed[key.removeprefix(PREFIX)] = parse_json(value)
            except ValueError as error:
                raise BundleError(
                    f"{source}: metadata {printable(key)} is not JSON: {value[:80]!r}",
                    hint="export the checkpoint again",
                ) from error
    if not parsed:
        raise BundleError(
            f"{source}: no {PREFIX}* metadata in the file",
            hint="it was not written by export-classifier; export the checkpoint with it",
        )
    return parsed
