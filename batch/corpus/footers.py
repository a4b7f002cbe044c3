"""Parquet footers: rows, row groups and columns of a file, without reading its pages."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from batch.corpus.files import SourceFile
from schemas.errors import CorpusError


@dataclass(frozen=True)
class PlannedFile:
    """A file whose footer was read.

    group_rows: rows of each row group. row_bytes: mean uncompressed bytes of a row.
    int96: columns that hold timestamps of 96 bits, nested ones too; they are read as microseconds.
    """

    source: SourceFile
    schema: pa.Schema
    group_rows: tuple[int, ...]
    row_bytes: float
    int96: frozenset[str] = frozenset()

    @property
    def rows(self) -> int:
        """Rows of the file."""
        return sum(self.group_rows)


def open_parquet(source: SourceFile, *, int96_unit: str = "us") -> pq.ParquetFile:
    """Open a file. Raises CorpusError if it is not Parquet, or cut short.

    int96_unit: of timestamps of 96 bits. Nanoseconds wrap round before 1678 and after 2262.
    """
    try:
        handle = source.path if source.is_local else source.filesystem.open(source.path)
        return pq.ParquetFile(handle, coerce_int96_timestamp_unit=int96_unit)
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:  # a column's name, perhaps
        raise CorpusError(
            f"{source.name}: not a readable Parquet file: {first_line(error)}",
            hint="is it Parquet, and was it copied whole?",
        ) from error


def read_footer(source: SourceFile) -> PlannedFile:
    """Read the footer of a file. Raises CorpusError if it is not Parquet."""
    with open_parquet(source) as file:
        footer = file.metadata
        groups = [footer.row_group(index) for index in range(footer.num_row_groups)]
        rows = sum(group.num_rows for group in groups)
        size = sum(group.total_byte_size for group in groups)
        try:
            schema = file.schema_arrow
        except (pa.ArrowException, NotImplementedError) as error:
            raise CorpusError(
                f"{source.name}: its schema cannot be read: {first_line(error)}",
                hint="write it again with a current Parquet writer",
            ) from error
        return PlannedFile(
            source=source,
            schema=schema.remove_metadata(),
            group_rows=tuple(group.num_rows for group in groups),
            row_bytes=size / max(rows, 1),
            int96=_int96_columns(footer.schema, frozenset(schema.names)),
        )


def _int96_columns(schema: pq.ParquetSchema, names: frozenset[str]) -> frozenset[str]:
    leaves = (schema.column(index) for index in range(len(schema)))
    paths = [leaf.path.split(".") for leaf in leaves if leaf.physical_type == "INT96"]
    columns = [
        next(name for end in range(1, len(path) + 1) if (name := ".".join(path[:end])) in names)
        for path in paths  # a column's own name may have dots, too
    ]
    return frozenset(columns)


def first_line(error: Exception) -> str:
    """First line of a library's message, or the name of its class where it has none."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
