"""A finished chunk on disk: its part, its quarantine, and then its marker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from batch.corpus.decode import bad_utf8
from batch.corpus.plan import Chunk
from batch.corpus.reader import Rows
from batch.corpus.types.output_types import holds_text
from batch.scoring.scorer import Scored, label_slices
from schemas.errors import OutputError
from schemas.io.files import atomic_path, remedy
from schemas.tables import (
    QUARANTINE_SCHEMA,
    SOURCE_FILE,
    SOURCE_ROW,
    ProbabilityFormat,
    name_key,
    prediction_fields,
)

PART_DIGITS = 5
"""Digits of a part's number at least."""


def part_name(index: int, *, chunks: int) -> str:
    """File name of the part of chunk `index`, one of `chunks`; names sort as the chunks do."""
    digits = max(PART_DIGITS, len(str(chunks - 1)))
    return f"part-{index:0{digits}d}.parquet"


@dataclass(frozen=True)
class PartFormat:
    """What is the same in every part of a run.

    labels: of each task, in the order of the columns of `Scored`. model: short hash of the bundle.
    """

    labels: Mapping[str, tuple[str, ...]]
    probabilities: ProbabilityFormat
    model: str


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
    labels = part_format.labels
    keep = np.array([status != "quarantined" for status in statuses], dtype=np.bool_)
    empty = np.array([status == "empty" for status in statuses], dtype=np.bool_)[keep]
    added: list[pa.Array] = []
    for task, columns in label_slices(labels).items():
        decided = scored.decided[keep, columns] & ~empty[:, None]
        added.append(_label_lists(decided, labels[task]))
        probabilities = scored.probabilities[keep, columns]
        if part_format.probabilities == "map":
            added.append(_probability_maps(probabilities, labels[task], empty))
        elif part_format.probabilities == "struct":
            added.append(_probability_structs(probabilities, labels[task], empty))
    added += [
        pa.array(scored.tokens[keep], pa.int32()),
        pa.array([s for s, kept in zip(statuses, keep, strict=True) if kept], pa.string()),
        pa.repeat(pa.scalar(part_format.model, pa.string()), int(keep.sum())),
        pa.array([h for h, kept in zip(text_hashes, keep, strict=True) if kept], pa.string()),
        pa.repeat(pa.scalar(source, pa.string()), int(keep.sum())),
        pa.array(chunk.first_row + np.flatnonzero(keep), pa.int64()),
    ]
    kept = rows.kept if keep.all() else rows.kept.take(pa.array(np.flatnonzero(keep)))
    schema = pa.schema([*kept.schema, *prediction_fields(labels, part_format.probabilities)])
    return pa.Table.from_arrays([*kept.columns, *added], schema=schema)


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


def _label_lists(decided: np.ndarray, labels: tuple[str, ...]) -> pa.Array:
    """(rows, labels) bool to a list of label names a row, in label order."""
    offsets = np.concatenate([[0], decided.sum(axis=1).cumsum()]).astype(np.int32)
    names = pa.array(labels, pa.string()).take(pa.array(np.nonzero(decided)[1]))
    return pa.ListArray.from_arrays(pa.array(offsets), names)


def _probability_maps(
    probabilities: np.ndarray, labels: tuple[str, ...], empty: np.ndarray
) -> pa.Array:
    """(rows, labels) float32 to a map a row, in label order; null where a row is empty."""
    sizes = np.where(empty, 0, len(labels))
    offsets = np.concatenate([[0], sizes.cumsum()])
    scored = probabilities[~empty]
    numbers = np.tile(np.arange(len(labels)), len(scored))
    keys = pa.array(labels, pa.string()).take(pa.array(numbers))
    return pa.MapArray.from_arrays(
        pa.array(offsets, pa.int32()),  # refuses what int32 cannot hold
        keys,
        pa.array(scored.ravel(), pa.float32()),
        mask=pa.array(empty),
    )


def _probability_structs(
    probabilities: np.ndarray, labels: tuple[str, ...], empty: np.ndarray
) -> pa.Array:
    """(rows, labels) float32 to a struct a row, null where a row is empty."""
    return pa.StructArray.from_arrays(
        [np.ascontiguousarray(column) for column in probabilities.T],
        fields=[pa.field(label, pa.float32()) for label in labels],
        mask=pa.array(empty),
    )
