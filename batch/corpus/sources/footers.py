"""Parquet footers: rows, row groups and columns of a file, without its pages."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from batch.corpus.sources.claims import wrong_claim
from batch.corpus.sources.source import SourceFile
from batch.corpus.sources.urls import plain_reason
from schemas.errors import CorpusError

TAIL_BYTES = 8
"""Length of the footer (4 bytes) and the magic number."""
SIGNATURE_BYTES = 28
"""Length of the nonce and tag that follow a plaintext footer of a file with encrypted columns."""
ENCRYPTED_HINT = "decrypt it first: keys of encrypted Parquet files are not supported"


@dataclass(frozen=True)
class PlannedFile:
    """A file whose footer was read.

    group_rows: rows of each row group. row_bytes: mean uncompressed bytes of a row.
    int96: columns that contain INT96 timestamps, even nested ones; they are read as microseconds.
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
    """Open the version of a file that was listed.

    int96_unit: unit of INT96 timestamps. Nanoseconds overflow before 1678 and after 2262.
    Raises CorpusError if the file changed since, cannot be read, is encrypted, is not Parquet, or
    is truncated.
    """
    handle = source.open()
    try:
        file = pq.ParquetFile(handle, coerce_int96_timestamp_unit=int96_unit)
        signed = _is_signed(handle, file.metadata)
    except Exception as error:  # including errors of a store, and of a column name's encoding
        handle.close()
        raise _not_readable(source, error) from error
    if signed:
        handle.close()
        raise _encrypted(source)
    return file


def read_footer(source: SourceFile) -> PlannedFile:
    """Read the footer of a file. Raises CorpusError if it is not Parquet, or not plausible."""
    with open_parquet(source) as file:
        footer = file.metadata
        claim = wrong_claim(footer, source.version.size)
        if claim is not None:
            raise CorpusError(
                f"{source.label}: not a valid Parquet file: {claim}",
                hint="the file is damaged or malicious; write it again",
            )
        try:
            schema = file.schema_arrow
        except (OSError, pa.ArrowException, NotImplementedError, ValueError) as error:
            raise CorpusError(
                f"{source.label}: its schema cannot be read: {plain_reason(error, source.path)}",
                hint="write it again with a current Parquet writer",
            ) from error
        groups = [footer.row_group(index) for index in range(footer.num_row_groups)]
        rows = sum(group.num_rows for group in groups)
        size = sum(group.total_byte_size for group in groups)
        return PlannedFile(
            source=source,
            schema=schema.remove_metadata(),
            group_rows=tuple(group.num_rows for group in groups),
            row_bytes=size / max(rows, 1),
            int96=_int96_columns(footer.schema, frozenset(schema.names)),
        )


def decode_error(source: SourceFile, what: str, error: Exception) -> CorpusError:
    """The error for pages that cannot be decoded: the file is encrypted or damaged.

    what: the rows or the column. Raises CorpusError itself if the file changed meanwhile.
    """
    source.check_unchanged()
    if _is_about_keys(error):
        return _encrypted(source)
    return CorpusError(
        f"{source.label}: {what} cannot be decoded: {plain_reason(error, source.path)}",
        hint="the file is damaged; write it again",
    )


def _int96_columns(schema: pq.ParquetSchema, names: frozenset[str]) -> frozenset[str]:
    leaves = (schema.column(index) for index in range(len(schema)))
    paths = [leaf.path.split(".") for leaf in leaves if leaf.physical_type == "INT96"]
    columns = [
        next(name for end in range(1, len(path) + 1) if (name := ".".join(path[:end])) in names)
        for path in paths  # a column name may contain dots, too
    ]
    return frozenset(columns)


def _not_readable(source: SourceFile, error: Exception) -> CorpusError:
    if _is_about_keys(error):
        return _encrypted(source)
    return CorpusError(
        f"{source.label}: not a readable Parquet file: {plain_reason(error, source.path)}",
        hint="is it Parquet, and was it copied completely?",
    )


def _is_signed(handle: BinaryIO, footer: pq.FileMetaData) -> bool:
    """True if a signature follows the footer, as in files where only columns are encrypted."""
    handle.seek(-TAIL_BYTES, io.SEEK_END)
    footer_bytes = int.from_bytes(handle.read(TAIL_BYTES)[:4], "little")
    return bool(footer_bytes - footer.serialized_size == SIGNATURE_BYTES)


def _encrypted(source: SourceFile) -> CorpusError:
    return CorpusError(f"{source.label}: is encrypted", hint=ENCRYPTED_HINT)


def _is_about_keys(error: Exception) -> bool:
    """True for an error of Arrow about a missing key of an encrypted file."""
    text = str(error).lower()
    return "crypt" in text and not isinstance(error, MemoryError)
