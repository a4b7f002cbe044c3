"""Prediction columns of a run over one task or several."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa

from schemas.decision.neighbours import NEIGHBOURS_TYPE
from schemas.kinds import KINDS
from schemas.tables import (
    MODEL,
    NEIGHBOURS,
    SOURCE_FILE,
    SOURCE_ROW,
    STATUS,
    TEXT_HASH,
    TOKENS,
    ProbabilityFormat,
)

COMMON_FIELDS = (
    pa.field(TOKENS, pa.int32(), nullable=False),
    pa.field(STATUS, pa.string(), nullable=False),
    pa.field(MODEL, pa.string(), nullable=False),
    pa.field(TEXT_HASH, pa.string()),
    pa.field(SOURCE_FILE, pa.string(), nullable=False),
    pa.field(SOURCE_ROW, pa.int64(), nullable=False),
)
"""Columns after those of the tasks."""


def column_prefix(task: str, tasks: int) -> str:
    """Prefix of a task's columns in a run over so many tasks."""
    return f"{task}_" if tasks > 1 else ""


def task_fields(
    task: str,
    kind: str,
    labels: tuple[str, ...],
    form: ProbabilityFormat,
    *,
    tasks: int,
    width: int = 0,
    neighbours: bool = False,
) -> list[pa.Field]:
    """Columns of one task in a run over so many tasks.

    width: of the task's output; names do not depend on it, nor on the labels.
    neighbours: the run names the nearest reference texts, where the kind has any.
    """
    prefix = column_prefix(task, tasks)
    fields = KINDS[kind].fields(labels, width, form)
    if neighbours and KINDS[kind].HAS_REFERENCES:
        fields = [*fields, pa.field(NEIGHBOURS, NEIGHBOURS_TYPE)]
    return [field.with_name(prefix + field.name) for field in fields]


def answer_column(task: str, kind: str, *, tasks: int) -> str:
    """Name of the column that has a task's answers."""
    return str(task_fields(task, kind, (), "map", tasks=tasks)[0].name)


def reserved_columns(kinds: Mapping[str, str], *, neighbours: bool = False) -> tuple[str, ...]:
    """Columns that predictions of these tasks add, kinds by task; a corpus may not have them.

    neighbours: as in `task_fields`.
    """
    names = [
        field.name
        for task, kind in kinds.items()
        for field in task_fields(task, kind, (), "map", tasks=len(kinds), neighbours=neighbours)
    ]
    return (*names, *(field.name for field in COMMON_FIELDS))
