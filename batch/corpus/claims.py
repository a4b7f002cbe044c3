"""What a Parquet footer claims, compared with the file that it stands in."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow.parquet as pq

ROWS_A_BYTE = 2**20
"""Rows that one byte of a file may stand for. A column of one value repeated comes to a few hundred
thousand with the longest row groups and pages that writers make."""
MAX_COLUMNS = 100_000
MAGIC_BYTES = 4


def wrong_claims(footer: pq.FileMetaData, file_bytes: int | None) -> Iterator[str]:
    """What cannot be true of a file of this size; nothing for a sound footer.

    file_bytes: None where the store does not say, which leaves out what depends on it.
    """
    groups = [footer.row_group(index) for index in range(footer.num_row_groups)]
    rows = [group.num_rows for group in groups]
    if any(count < 0 for count in rows) or footer.num_rows < 0:
        yield "it claims a negative number of rows"
    if sum(rows) != footer.num_rows:
        yield f"it claims {footer.num_rows:,} rows, its row groups {sum(rows):,}"
    if any(group.total_byte_size < 0 for group in groups):
        yield "it claims a row group of a negative size"
    if footer.num_columns > MAX_COLUMNS:
        yield f"it claims {footer.num_columns:,} columns, more than {MAX_COLUMNS:,}"
        return
    if file_bytes is None:
        return
    if footer.num_rows > file_bytes * ROWS_A_BYTE:
        yield f"it claims {footer.num_rows:,} rows in {file_bytes:,} bytes"
    for group in groups:
        yield from _wrong_columns(group, file_bytes)


def _wrong_columns(group: pq.RowGroupMetaData, file_bytes: int) -> Iterator[str]:
    for index in range(group.num_columns):
        column = group.column(index)
        size, first = column.total_compressed_size, column.data_page_offset
        if column.has_dictionary_page and column.dictionary_page_offset is not None:
            first = min(first, column.dictionary_page_offset)
        if size < 0 or column.num_values < 0:
            yield f"column {column.path_in_schema!r} claims a negative size or number of values"
        elif first < 0 or first + size > file_bytes:
            yield (
                f"column {column.path_in_schema!r} claims bytes {first:,} to {first + size:,} of "
                f"a file of {file_bytes:,}"
            )
        elif group.num_rows and not column.num_values:
            yield f"column {column.path_in_schema!r} claims no values for {group.num_rows:,} rows"
