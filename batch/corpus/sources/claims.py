"""Plausibility checks of a Parquet footer against the size of its file."""

from __future__ import annotations

import pyarrow.parquet as pq

MAX_ROWS_PER_BYTE = 2**20
"""Maximum plausible rows per byte of a file. A column that repeats one value has some hundred
thousand, with the longest row groups and pages that writers make."""
MAX_COLUMNS = 100_000


def wrong_claim(footer: pq.FileMetaData, file_bytes: int | None) -> str | None:
    """A claim of the footer that cannot be true for a file of this size; None for a valid footer.

    Column offsets are left to Arrow, which checks them before it reads: asking pyarrow for the
    metadata of an encrypted column crashes the process.
    file_bytes: None if the store does not report it, which skips the checks that need it.
    """
    groups = [footer.row_group(index) for index in range(footer.num_row_groups)]
    rows = [group.num_rows for group in groups]
    if footer.num_rows < 0 or any(count < 0 for count in rows):
        return "it claims a negative number of rows"
    if sum(rows) != footer.num_rows:
        return f"it claims {footer.num_rows:,} rows, but its row groups {sum(rows):,}"
    if any(group.total_byte_size < 0 for group in groups):
        return "it claims a row group of a negative size"
    if footer.num_columns > MAX_COLUMNS:
        return f"it claims {footer.num_columns:,} columns; at most {MAX_COLUMNS:,} are read"
    if file_bytes is not None and footer.num_rows > file_bytes * MAX_ROWS_PER_BYTE:
        return f"it claims {footer.num_rows:,} rows in {file_bytes:,} bytes"
    return None
