"""A finished chunk on disk: its part, its quarantine, and then its marker."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from batch.corpus.decode import bad_utf8
from batch.corpus.plan import Chunk
from batch.corpus.reader import Rows
from batch.corpus.types.output_types import holds_text
from batch.scoring.scorer import Scored
from schemas.errors import OutputError
from schemas.io.files import atomic_path, remedy
from schemas.kinds.columns import COMMON_FIELDS, task_fields
from schemas.tables import (
    QUARANTINE_SCHEMA,
    SOURCE_FILE,
    SOURCE_ROW,
    ProbabilityFormat,
    name_key,
)

PART_DIGITS = 5
"""Digits of a part's number at least."""


def part_name(index: int, *, chunks: int) -> str:
    """File name of the part of chunk `index`, one of `chunks`; names sort as the chunks do."""
    digits = max(PART_DIGITS, len(str(chunks - 1)))
    return f"part-{index:0{digits}d}.parquet"


@dataclass(frozen=True)
class TaskColumns:
    """What the prediction columns of one task depend on. width: of its output."""

    task: str
    kind: str
    labels: tuple[str, ...]
    width: int


@dataclass(frozen=True)
class PartFormat:
    """What is the same in every part of a run.

    model: short hash of the bundle. neighbours: the run names the nearest reference texts.
    """

    tasks: tuple[TaskColumns, ...]
    probabilities: ProbabilityFormat
    model: str
    neighbours: bool = False

    def fields(self) -> list[pa.Field]:
        """Columns that predictions add to those of the input."""
        fields = [
            field
            for one in self.tasks
            for field in task_fields(
                one.task,
                one.kind,
                one.labels,
                self.probabilities,
                tasks=len(self.tasks),
                width=one.width,
                neighbours=self.neighbours,
            )
        ]
        return [*fields, *COMMON_FIELDS]


def prediction_table(
    rows: Rows,
    scored: Scored,
    statuses: Sequence[str],
    text_hashes: Sequence[str | None],
    part_format: PartFormat,
    *,
    chunk: Chunk,
    source: str,
) -> pa.Table:
    """Predictions for the rows of a chunk that were not quarantined.

    rows, statuses, text_hashes: every row of the chunk. scored: one result a row of the chunk.
    """
    keep = np.array([status != "quarantined" for status in statuses], dtype=np.bool_)
    numbers = np.flatnonzero(keep)
    rows_kept = numbers.tolist()
    is_answered = np.array([statuses[row] != "empty" for row in rows_kept], dtype=np.bool_)
    results = scored if keep.all() else scored.take(numbers)
    arrays: list[pa.Array] = []
    for one in part_format.tasks:
        arrays += results.tasks[one.task].columns(is_answered, part_format.probabilities)
        if one.task in results.neighbours:
            arrays.append(results.neighbours[one.task].column(is_answered))
    arrays += [
        pa.array(results.tokens, pa.int32()),
        pa.array([statuses[row] for row in rows_kept], pa.string()),
        pa.repeat(pa.scalar(part_format.model, pa.string()), len(numbers)),
        pa.array([text_hashes[row] for row in rows_kept], pa.string()),
        pa.repeat(pa.scalar(source, pa.string()), len(numbers)),
        pa.array(chunk.first_row + numbers, pa.int64()),
    ]
    inputs = rows.kept if keep.all() else rows.kept.take(pa.array(numbers))
    schema = pa.schema([*inputs.schema, *part_format.fields()])
    return pa.Table.from_arrays([*inputs.columns, *arrays], schema=schema)


def quarantine_table(rows: Rows, *, chunk: Chunk, source: str, id_column: str) -> pa.Table | None:
    """The rows of a chunk that cannot be scored, with the reason; None if there are none.

    id_column: carried over where the corpus has it, so that the article can be found.
    """
    bad = [row for row, reason in enumerate(rows.reasons) if reason is not None]
    if not bad:
        return None
    columns = {
        SOURCE_FILE: pa.repeat(pa.scalar(source, pa.string()), len(bad)),
        SOURCE_ROW: pa.array([chunk.first_row + row for row in bad], pa.int64()),
        "reason": pa.array([rows.reasons[row] for row in bad], pa.string()),
    }
    table = pa.Table.from_arrays(list(columns.values()), schema=QUARANTINE_SCHEMA)
    own = {name_key(name) for name in table.column_names}
    if id_column in rows.kept.column_names and name_key(id_column) not in own:
        field = rows.kept.schema.field(id_column)
        ids = rows.kept.column(id_column).take(pa.array(bad))
        table = table.append_column(field, _without_bad_text(ids.combine_chunks(), field.type))
    return table


def write_part(table: pa.Table, final: Path, *, scratch: Path) -> None:
    """Write a Parquet file whole or not at all.

    Raises OutputError, for instance when the disk is full; nothing is left under either name.
    """
    try:
        with atomic_path(final, scratch=scratch) as temporary:
            pq.write_table(table, temporary, compression="zstd")
    except (OSError, pa.ArrowException) as error:
        raise OutputError(
            f"{final}: cannot be written: {error}",
            hint=f"{remedy(error)}, then run the same command again: it resumes",
        ) from error


def _without_bad_text(ids: pa.Array, kind: pa.DataType) -> pa.Array:
    """Ids with null for those that are not UTF-8, which would make the quarantine unreadable."""
    bad = set(bad_utf8(ids)) if holds_text(kind) else set()
    rows = [None if row in bad else row for row in range(len(ids))]
    return ids.take(pa.array(rows, pa.int64())) if bad else ids
