"""Selection of the training or validation rows by the values of a split column."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pyarrow as pa

from schemas.config.models import DataConfig
from schemas.errors import DataError, nearest
from schemas.tables import is_text
from schemas.text.arrow_text import decode_text
from trainer.data.readers.tables import OpenFile

SHOWN_VALUES = 8


def split_rows(batch: pa.RecordBatch, file: OpenFile, data: DataConfig, part: str) -> Sequence[int]:
    """Rows of the batch that belong to a part; all rows if there is no split column."""
    if data.split_column not in file.columns:
        return range(batch.num_rows)
    part_value = _part_value(data, part)
    values = _split_values(file, batch, data.split_column)
    return [row for row, value in enumerate(values) if value == part_value]


def refuse_unmatched(files: Sequence[OpenFile], data: DataConfig, part: str) -> None:
    """Raise DataError that lists the values of the split column, the most frequent first."""
    name = data.split_column
    counts: Counter[str | None] = Counter()
    for file in files:
        for batch in file.batches([name]):
            counts.update(_split_values(file, batch, name))
    shown = [f"{value!r} ({rows} rows)" for value, rows in counts.most_common(SHOWN_VALUES)]
    more = f" and {len(counts) - SHOWN_VALUES} more" if len(counts) > SHOWN_VALUES else ""
    part_value, setting = _part_value(data, part), f"{part}_value"
    close = nearest(part_value or "", (value for value in counts if value is not None))
    raise DataError(
        f"{data.path}: no row has {part_value!r} in column {name!r}; there are "
        f"{', '.join(shown) or 'no rows'}{more}",
        hint=f"did you mean {setting} = {close!r}?" if close else f"set {setting} in the config",
    )


def _part_value(data: DataConfig, part: str) -> str | None:
    return data.train_value if part == "train" else data.validation_value


def _split_values(file: OpenFile, batch: pa.RecordBatch, name: str) -> list[str | None]:
    """Values as text, as in the config: integers in digits, `true` and `false`."""
    column = file.array(batch, name)
    kind = column.type
    if is_text(kind) or pa.types.is_null(kind):
        return decode_text(column)
    if pa.types.is_integer(kind):
        return [None if value is None else str(value) for value in column.to_pylist()]
    if pa.types.is_boolean(kind):
        return [None if value is None else str(value).lower() for value in column.to_pylist()]
    raise DataError(
        f"{file.path}: column {name!r} is {kind}, not text, whole numbers or booleans",
        hint="name another split_column",
    )
