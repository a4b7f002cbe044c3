"""Arrow schemas: what a corpus must have, and what predictions look like."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pyarrow as pa

from schemas.arrays import BoolArray, Float32Array

LABEL = "label"
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

NEIGHBOURS = "neighbours"
ID = "id"
SIMILARITY = "similarity"

ENTITY = "entity"
ENTITIES = "entities"
SCORE = "score"
TEXT = "text"
START = "start"
END = "end"

QUARANTINE_SCHEMA = pa.schema(
    [
        pa.field(SOURCE_FILE, pa.string(), nullable=False),
        pa.field(SOURCE_ROW, pa.int64(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
    ]
)


def probability_type(labels: tuple[str, ...], form: ProbabilityFormat) -> pa.DataType:
    """Type of a column of probabilities, a map or a struct."""
    if form == "struct":
        return pa.struct([pa.field(label, pa.float32()) for label in labels])
    return pa.map_(pa.string(), pa.float32())


def probability_column(
    probabilities: Float32Array,
    labels: tuple[str, ...],
    is_answered: BoolArray,
    form: ProbabilityFormat,
) -> pa.Array:
    """(rows, labels) float32 to a map or a struct a row, in label order; null unless answered."""
    if form == "struct":
        return pa.StructArray.from_arrays(
            [np.ascontiguousarray(column) for column in probabilities.T],
            fields=[pa.field(label, pa.float32()) for label in labels],
            mask=pa.array(~is_answered),
        )
    sizes = np.where(is_answered, len(labels), 0)
    offsets = np.concatenate([[0], sizes.cumsum()])
    answered = probabilities[is_answered]
    numbers = np.tile(np.arange(len(labels)), len(answered))
    return pa.MapArray.from_arrays(
        pa.array(offsets, pa.int32()),  # refuses what int32 cannot hold
        pa.array(labels, pa.string()).take(pa.array(numbers)),
        pa.array(answered.ravel(), pa.float32()),
        mask=pa.array(~is_answered),
    )


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
