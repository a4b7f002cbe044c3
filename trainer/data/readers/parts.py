"""Selection of the training or validation rows by the values of columns."""

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


def rows_of_part(
    batch: pa.RecordBatch, file: OpenFile, data: DataConfig, part: str
) -> Sequence[int]:
    """Rows of the batch that are read and belong to a part; to every part without a split column.

    Raises DataError for a column of another type.
    """
    rows: Sequence[int] = range(batch.num_rows)
    conditions: list[tuple[str, Sequence[str | None]]] = [*data.only.items()]
    if data.split_column in file.columns:
        conditions.append((data.split_column, [_part_value(data, part)]))
    for name, allowed in conditions:
        values = _values(file, batch, name)
        rows = [row for row in rows if values[row] in allowed]
    return rows


def refuse_unmatched(files: Sequence[OpenFile], data: DataConfig, part: str) -> None:
    """Raise DataError that lists the values of the column that leaves no row.

    That is the first key of `only` whose values do not occur, else the split column.
    """
    for name, allowed in data.only.items():
        counts = _count_values(files, name)
        if not counts.keys() & set(allowed):
            close = nearest(allowed[0], _texts(counts))
            raise DataError(
                f"{data.path}: no row has {' or '.join(map(repr, allowed))} in column {name!r}; "
                f"there are {_shown(counts)}",
                hint=f"did you mean {close!r}?" if close else f"set only.{name} in the config",
            )
    name = data.split_column
    if not any(name in file.columns for file in files):
        raise DataError(
            f"{data.path}: no row has all of the values that the columns of `only` ask for",
            hint="each of them occurs, but in other rows",
        )
    counts = _count_values(files, name)
    part_value, setting = _part_value(data, part), f"{part}_value"
    close = nearest(part_value or "", _texts(counts))
    among = " among those that `only` leaves" if data.only else ""
    raise DataError(
        f"{data.path}: no row{among} has {part_value!r} in column {name!r}; there are "
        f"{_shown(counts)}",
        hint=f"did you mean {setting} = {close!r}?" if close else f"set {setting} in the config",
    )


def _count_values(files: Sequence[OpenFile], name: str) -> Counter[str | None]:
    return Counter(
        value
        for file in files
        for batch in file.batches([name])
        for value in _values(file, batch, name)
    )


def _texts(counts: Counter[str | None]) -> list[str]:
    return [value for value in counts if value is not None]


def _shown(counts: Counter[str | None]) -> str:
    """Values with their rows, the most frequent first."""
    shown = [f"{value!r} ({rows} rows)" for value, rows in counts.most_common(SHOWN_VALUES)]
    more = f" and {len(counts) - SHOWN_VALUES} more" if len(counts) > SHOWN_VALUES else ""
    return f"{', '.join(shown) or 'no rows'}{more}"


def _part_value(data: DataConfig, part: str) -> str | None:
    return data.train_value if part == "train" else data.validation_value


def _values(file: OpenFile, batch: pa.RecordBatch, name: str) -> list[str | None]:
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
        hint="name another column",
    )
