"""Arrow schemas: what a corpus must have, and what predictions look like."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import pyarrow as pa

LABELS = "labels"
PROBABILITIES = "probabilities"
TOKENS = "tokens"
STATUS = "status"
MODEL = "model"
TEXT_HASH = "text_hash"
SOURCE_FILE = "source_file"
SOURCE_ROW = "source_row"

ProbabilityFormat = Literal["map", "struct", "none"]
"""How predictions hold the probabilities of a task: a map from label to probability, whose type
does not depend on the labels; a struct with one field a label; or not at all."""

GOLD_PREFIX = "gold_"
"""Before the name of a gold column that is called like one of decided labels."""

ENTITY = "entity"
START = "start"
END = "end"

QUARANTINE_SCHEMA = pa.schema(
    [
        pa.field(SOURCE_FILE, pa.string(), nullable=False),
        pa.field(SOURCE_ROW, pa.int64(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
    ]
)


def task_columns(task: str, tasks: Sequence[str]) -> tuple[str, str]:
    """Names of a task's columns of labels and of probabilities in a run over `tasks`.

    With more tasks than one, each has its name before them.
    """
    prefix = f"{task}_" if len(tasks) > 1 else ""
    return prefix + LABELS, prefix + PROBABILITIES


def reserved_columns(tasks: Sequence[str]) -> tuple[str, ...]:
    """Columns that predictions of these tasks add; a corpus may not have them."""
    found = [name for task in tasks for name in task_columns(task, tasks)]
    return (*found, TOKENS, STATUS, MODEL, TEXT_HASH, SOURCE_FILE, SOURCE_ROW)


def probabilities_type(
    labels: tuple[str, ...], probability_format: ProbabilityFormat
) -> pa.DataType | None:
    """Type of a task's column of probabilities; None where there is no such column."""
    if probability_format == "struct":
        return pa.struct([pa.field(label, pa.float32()) for label in labels])
    return pa.map_(pa.string(), pa.float32()) if probability_format == "map" else None


def prediction_fields(
    labels: Mapping[str, tuple[str, ...]], probability_format: ProbabilityFormat = "map"
) -> list[pa.Field]:
    """Fields that multi-label tasks add to the input columns; labels by task, both in order."""
    fields = []
    for task, names in labels.items():
        decided, probabilities = task_columns(task, tuple(labels))
        fields.append(pa.field(decided, pa.list_(pa.string())))
        kind = probabilities_type(names, probability_format)
        if kind is not None:
            fields.append(pa.field(probabilities, kind))
    return [
        *fields,
        pa.field(TOKENS, pa.int32(), nullable=False),
        pa.field(STATUS, pa.string(), nullable=False),
        pa.field(MODEL, pa.string(), nullable=False),
        pa.field(TEXT_HASH, pa.string()),
        pa.field(SOURCE_FILE, pa.string(), nullable=False),
        pa.field(SOURCE_ROW, pa.int64(), nullable=False),
    ]


def name_key(name: str) -> str:
    """Key by which Spark and DuckDB look a column up: case does not count."""
    return name.lower()


def is_text(kind: pa.DataType) -> bool:
    """True for every Arrow string type, binary columns that may hold UTF-8, and dictionaries of
    those.
    """
    if pa.types.is_dictionary(kind):
        return is_text(kind.value_type)
    return bool(
        pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
        or pa.types.is_string_view(kind)
        or pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_binary_view(kind)
    )


def is_list(kind: pa.DataType) -> bool:
    """True for every Arrow list type, maps apart."""
    return bool(
        pa.types.is_list(kind)
        or pa.types.is_large_list(kind)
        or pa.types.is_fixed_size_list(kind)
        or pa.types.is_list_view(kind)
        or pa.types.is_large_list_view(kind)
    )
