"""Arrow schemas: what a corpus must have, and what predictions look like."""

from __future__ import annotations

import pyarrow as pa

LABELS = "labels"
PROBABILITIES = "probabilities"
TOKENS = "tokens"
STATUS = "status"
SOURCE_FILE = "source_file"
SOURCE_ROW = "source_row"
RESERVED = (LABELS, PROBABILITIES, TOKENS, STATUS, SOURCE_FILE, SOURCE_ROW)
"""Columns that narrascan adds to predictions; a corpus may not have them."""

GOLD_RENAMED = "gold_labels"
"""Name that a gold column called `labels` takes in the predictions."""

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


def prediction_fields(labels: tuple[str, ...]) -> list[pa.Field]:
    """Fields that a multi-label task adds to the input columns."""
    return [
        pa.field(LABELS, pa.list_(pa.string())),
        pa.field(PROBABILITIES, pa.struct([pa.field(label, pa.float32()) for label in labels])),
        pa.field(TOKENS, pa.int32(), nullable=False),
        pa.field(STATUS, pa.string(), nullable=False),
        pa.field(SOURCE_FILE, pa.string(), nullable=False),
        pa.field(SOURCE_ROW, pa.int64(), nullable=False),
    ]


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
