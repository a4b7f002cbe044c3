"""Checks of column values while planning, for the few columns whose types are not conclusive."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

import pyarrow as pa
import pyarrow.compute as pc

from batch.corpus.sources.footers import PlannedFile, open_parquet
from batch.corpus.sources.versions import CheckStop
from batch.corpus.types.convert import LossError, convert
from schemas.errors import CorpusError, listing
from schemas.printable import printable

SCAN_BYTES = 16 * 2**20
SCAN_ROWS = 65_536
SHOWN_CHARS = 60


def check_values(
    file: PlannedFile, targets: Mapping[str, pa.DataType], check_stop: CheckStop
) -> None:
    """Check that every value of some columns can be converted without loss.

    targets: target type of each column.
    Raises CorpusError with file, row, column and value for the first value that would change.
    """
    first_row = 0
    for batch in _column_batches(file, targets, check_stop):
        for name, target in targets.items():
            column = batch.column(name)
            try:
                convert(column, target)
            except LossError as error:
                row = _first_loss(column, target)
                raise CorpusError(
                    f"{printable(file.source.name)}, row {first_row + row}: column {name!r} is "
                    f"{column.type}, and {_shown(column[row])} {error.reason}",
                    hint=error.hint,
                ) from error
        first_row += batch.num_rows


def converts(file: PlannedFile, name: str, target: pa.DataType, check_stop: CheckStop) -> bool:
    """True if every value of a column can be converted to `target` without loss."""
    for batch in _column_batches(file, [name], check_stop):
        try:
            convert(batch.column(name), target)
        except LossError:
            return False
    return True


def only_nulls(file: PlannedFile, name: str, check_stop: CheckStop) -> bool:
    """True if a column is null in every row."""
    return all(
        batch.column(name).null_count == batch.num_rows
        for batch in _column_batches(file, [name], check_stop)
    )


def check_int96(file: PlannedFile, names: Collection[str], check_stop: CheckStop) -> None:
    """Refuse timestamps of 96 bits with digits below a microsecond.

    Read in microseconds and in nanoseconds, the numbers agree modulo 2**64 if and only if no digits
    were lost. Raises CorpusError with file, row and column.
    """
    first_row = 0
    nanosecond_batches = _column_batches(file, names, check_stop, int96_unit="ns")
    microsecond_batches = _column_batches(file, names, check_stop)
    for microseconds, nanoseconds in zip(microsecond_batches, nanosecond_batches, strict=True):
        for name in names:
            column = nanoseconds.column(name)
            scaled = pc.cast(microseconds.column(name), column.type, safe=False)
            if scaled.equals(column):
                continue
            row = next(row for row in range(len(column)) if scaled[row] != column[row])
            raise CorpusError(
                f"{printable(file.source.name)}, row {first_row + row}: column {name!r} is INT96, "
                f"and {_shown(column[row])} has digits below a microsecond, which Spark cannot "
                "read",
                hint="round the column to microseconds, or write it as int64 or as a string",
            )
        first_row += microseconds.num_rows


def _column_batches(
    file: PlannedFile, names: Collection[str], check_stop: CheckStop, *, int96_unit: str = "us"
) -> Iterator[pa.RecordBatch]:
    rows = max(1, min(SCAN_ROWS, int(SCAN_BYTES / max(file.row_bytes, 1.0))))
    with open_parquet(file.source, int96_unit=int96_unit) as opened:
        try:
            # One row group at a time: Arrow would keep the data of several in memory.
            for group in range(opened.num_row_groups):
                for batch in opened.iter_batches(rows, row_groups=[group], columns=list(names)):
                    check_stop()
                    yield batch
        except (OSError, pa.ArrowException) as error:
            raise CorpusError(
                f"{printable(file.source.name)}: columns {listing(names)} cannot be decoded",
                hint="the file is damaged; write it again",
            ) from error


def _first_loss(column: pa.Array, target: pa.DataType) -> int:
    """Row of the first value that cannot be converted to `target`, by bisection."""
    first, rows = 0, len(column)
    while rows > 1:
        half = rows // 2
        try:
            convert(column.slice(first, half), target)
        except LossError:
            rows = half
        else:
            first, rows = first + half, rows - half
    return first


def _shown(value: pa.Scalar) -> str:
    try:
        text = str(value.cast(pa.string()).as_py())
    except (pa.ArrowException, ValueError):
        try:
            text = str(value)
        except ValueError:
            return "a value"
    return printable(text[:SHOWN_CHARS])
