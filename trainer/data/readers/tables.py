"""Parquet files with their columns, hive partitions included, and their rows in batches."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from schemas.errors import DataError
from trainer.data.readers.files import DataFile

BATCH_ROWS = 1024


@dataclass(frozen=True)
class OpenFile:
    """A file whose footer was read. schema: of the file itself, without hive partitions."""

    file: DataFile
    schema: pa.Schema

    @property
    def path(self) -> Path:
        """Path of the file."""
        return self.file.path

    @cached_property
    def columns(self) -> dict[str, pa.DataType]:
        """Arrow type by column name; a partition of the path is a string column."""
        keys = dict.fromkeys(self.file.partitions, pa.string())
        return {**keys, **{field.name: field.type for field in self.schema}}

    def batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Rows in file order. Raises DataError if a page cannot be decoded."""
        in_file = [name for name in columns if name in self.schema.names]
        row = 0
        with _parquet(self.path) as parquet:
            batches = parquet.iter_batches(BATCH_ROWS, columns=in_file)
            while (batch := _next(batches, self.path, row)) is not None:
                yield batch
                row += batch.num_rows

    def array(self, batch: pa.RecordBatch, name: str) -> pa.Array:
        """A column of a batch; for a hive partition, its value in every row."""
        if name in self.schema.names:
            return batch.column(name)
        return pa.array([self.file.partitions[name]] * batch.num_rows, pa.string())


def open_file(file: DataFile) -> OpenFile:
    """Read the footer of a file. Raises DataError if it is not Parquet."""
    with _parquet(file.path) as parquet:
        return OpenFile(file, parquet.schema_arrow)


@contextmanager
def _parquet(path: Path) -> Iterator[pq.ParquetFile]:
    """Open a file by its literal name, never as a URL or a pattern."""
    try:
        with pa.OSFile(os.fsencode(path)) as raw, pq.ParquetFile(raw) as parquet:
            yield parquet
    except (OSError, pa.ArrowException) as error:
        raise _unreadable(path, error) from error


def _next(batches: Iterator[pa.RecordBatch], path: Path, row: int) -> pa.RecordBatch | None:
    try:
        return next(batches, None)
    except (OSError, pa.ArrowException) as error:
        raise _unreadable(path, error, row) from error


def _unreadable(path: Path, error: Exception, row: int | None = None) -> DataError:
    reason = str(error).partition("\n")[0]
    if "encrypt" in reason or "decrypt" in reason:
        return DataError(
            f"{path}: is encrypted", hint="write a copy without encryption; keys are not supported"
        )
    where = "cannot be read as Parquet" if row is None else f"cannot be read from row {row} on"
    return DataError(f"{path}: {where}: {reason}", hint="is the file complete?")
