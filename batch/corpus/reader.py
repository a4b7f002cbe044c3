"""Reading a chunk: rows of a file become model texts, or go to quarantine with a reason."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from batch.corpus.decode import BadText, as_dates, bad_utf8, decode_text, plain_values
from batch.corpus.gold import bad_labels, misplaced_gold, read_gold_column
from batch.corpus.offsets import BadOffset, read_offsets
from batch.corpus.plan import Chunk, Plan
from batch.corpus.sources.footers import PlannedFile, decode_error, open_parquet
from batch.corpus.types.convert import LossError, convert
from batch.corpus.types.output_types import holds_text
from batch.options import CorpusOptions
from schemas.errors import CorpusError
from schemas.kinds import KINDS, AnyKind
from schemas.printable import printable
from schemas.tables import END, ENTITY, START, is_text
from schemas.text.model_text import EMPTY, Article, ModelText, TextSpec, is_blank, model_text

READ_BYTES = 16 * 2**20
READ_ROWS = 1024


@dataclass(frozen=True)
class Rows:
    """The rows of one chunk, in input order.

    texts: what the model reads; None where a row cannot be scored.
    reasons: why not; None for the others.
    domains: value of the domain column.
    gold: gold values by task, for tasks that have any; None where a row has none.
    kept: the input columns that predictions take over, every row of the chunk.
    """

    texts: Sequence[ModelText | None]
    reasons: Sequence[str | None]
    domains: Sequence[str | None]
    gold: Mapping[str, Sequence[Any]]
    kept: pa.Table


class ChunkReader:
    """Reads chunks in order, each row group decoded once and never held whole.

    A chunk that could not be read may be asked for again, whole or in parts.
    """

    def __init__(
        self, plan: Plan, options: CorpusOptions, spec: TextSpec, *, max_tokens: int
    ) -> None:
        self._plan, self._options, self._spec = plan, options, spec
        self._max_tokens = max_tokens
        self._keeps_source = any(KINDS[kind].NEEDS_WORDS for kind in plan.tasks.kinds.values())
        self._with_text = [field.name for field in plan.kept if holds_text(field.type)]
        self._cursor: _Cursor | None = None

    def read(self, chunk: Chunk) -> Rows:
        """Read one chunk.

        Raises CorpusError if the file's pages cannot be decoded, or it changed since it was listed.
        """
        file = self._plan.files[chunk.file]
        cursor, self._cursor = self._cursor, None  # not used again if it fails
        if cursor is None or not cursor.leads_to(chunk):
            cursor = _Cursor(file, chunk)
        cursor.skip_to(chunk.first_row)
        texts: list[ModelText | None] = []
        reasons: list[str | None] = []
        domains: list[str | None] = []
        columns = self._plan.tasks.gold
        gold: dict[str, list[Any]] = {task: [] for task in columns}
        kept = []
        for batch in cursor.take(chunk.rows):
            table = self._kept(batch, file)
            values = {
                task: read_gold_column(self._plan.tasks.kind(task), batch.column(column))
                for task, column in columns.items()
            }
            bad = self._bad_rows(table)
            for task, column in columns.items():
                bad |= self._bad_gold(self._plan.tasks.kind(task), values[task], batch, column)
            for row, (text, reason) in enumerate(self._texts(batch)):
                reasons.append(reason or bad.get(row))
                texts.append(None if row in bad else text)
            domains += self._domains(batch, file)
            for task, of_batch in values.items():
                gold[task] += of_batch
            kept.append(table)
        whole = pa.concat_tables(kept) if kept else self._plan.kept.empty_table()
        # Where batches end depends on where reading began, and a part must not.
        whole = whole.combine_chunks()
        if file.source.is_local:  # a request for each chunk would be too many
            file.source.check_unchanged()
        self._cursor = cursor
        return Rows(texts, reasons, domains, gold, whole)

    def _bad_gold(
        self, kind: AnyKind, gold: Sequence[Any], batch: pa.RecordBatch, column: str
    ) -> dict[int, str]:
        """Rows with a gold value that cannot be used, and the reason by row."""
        bad = bad_labels(kind, gold, column)
        if kind.NEEDS_WORDS:
            texts = decode_text(batch.column(self._options.text_column))
            bad |= misplaced_gold(kind, gold, texts, column)
        return bad

    def _texts(self, batch: pa.RecordBatch) -> Iterator[tuple[ModelText | None, str | None]]:
        names, rows = batch.schema.names, batch.num_rows
        nothing: list[None] = [None] * rows
        options = self._options
        texts = decode_text(batch.column(options.text_column))
        has_title = self._spec.title and options.title_column in names
        titles = decode_text(batch.column(options.title_column)) if has_title else nothing
        marked = self._spec.entity_markers
        entities = decode_text(batch.column(ENTITY)) if marked and ENTITY in names else nothing
        starts, ends = (
            read_offsets(batch.column(name), name) if marked else nothing for name in (START, END)
        )
        for row in zip(texts, titles, entities, starts, ends, strict=True):
            yield self._text(*row)

    def _text(
        self,
        text: str | None,
        title: str | None,
        entity: str | None,
        start: int | BadOffset | None,
        end: int | BadOffset | None,
    ) -> tuple[ModelText | None, str | None]:
        for value in (text, title, entity):
            if isinstance(value, BadText):
                return None, str(value)
        if is_blank(text):
            return EMPTY, None
        if isinstance(start, BadOffset):
            return None, start.reason
        if isinstance(end, BadOffset):
            return None, end.reason
        try:
            article = Article(text, title, entity, start, end)
            built = model_text(
                article, self._spec, max_tokens=self._max_tokens, keep_source=self._keeps_source
            )
            return built, None
        except ValueError as error:
            return None, str(error)

    def _domains(self, batch: pa.RecordBatch, file: PlannedFile) -> list[str | None]:
        name = self._options.domain_column
        if name in batch.schema.names:
            column = batch.column(name)
            if pa.types.is_temporal(column.type) and not pa.types.is_interval(column.type):
                column = as_dates(column)
            values = decode_text(column) if is_text(column.type) else plain_values(column)
            return [
                None if value is None or isinstance(value, BadText) else str(value)
                for value in values
            ]
        return [dict(file.source.partitions).get(name)] * batch.num_rows

    def _kept(self, batch: pa.RecordBatch, file: PlannedFile) -> pa.Table:
        columns = {
            self._plan.tasks.output_name(name): batch.column(name) for name in batch.schema.names
        }
        partitions = dict(file.source.partitions)
        arrays = []
        for field in self._plan.kept:
            if field.name in columns:
                arrays.append(_converted(columns[field.name], field, file))
            elif (value := partitions.get(field.name)) is not None:
                repeated = pa.repeat(pa.scalar(value, pa.string()), batch.num_rows)
                arrays.append(convert(repeated, field.type))
            else:
                arrays.append(pa.nulls(batch.num_rows, field.type))
        return pa.Table.from_arrays(arrays, schema=self._plan.kept)

    def _bad_rows(self, kept: pa.Table) -> dict[int, str]:
        """Rows with a string that polars and Arrow could not read, and the reason by row."""
        return {
            row: f"column {name!r} is not UTF-8"
            for name in self._with_text
            for row in bad_utf8(kept.column(name).combine_chunks())
        }


class _Cursor:
    """A place in a file from which rows are taken in order.

    It starts with the row group that `chunk` begins in, and reads no more rows at once than that
    chunk has.
    """

    def __init__(self, file: PlannedFile, chunk: Chunk) -> None:
        self._file, self._number = file, chunk.file
        self._parquet: pq.ParquetFile = open_parquet(file.source)
        group, self._row = _group_of(file, chunk.first_row)
        most = min(READ_ROWS, int(READ_BYTES / max(file.row_bytes, 1.0)), chunk.rows)
        # One row group at a time: Arrow keeps what it has read of all the groups it is asked for.
        self._batches = chain.from_iterable(
            self._parquet.iter_batches(batch_size=max(1, most), row_groups=[index])
            for index in range(group, len(file.group_rows))
        )
        self._rest: pa.RecordBatch | None = None

    def leads_to(self, chunk: Chunk) -> bool:
        """True if the chunk begins at the next row, or behind it in the same row group."""
        if self._number != chunk.file:
            return False
        _, first_of_group = _group_of(self._file, chunk.first_row)
        return first_of_group <= self._row <= chunk.first_row

    def skip_to(self, row: int) -> None:
        """Leave out the rows before `row`."""
        for _ in self.take(row - self._row):
            pass

    def take(self, rows: int) -> Iterator[pa.RecordBatch]:
        """Yield the next `rows` rows."""
        while rows:
            batch = self._rest if self._rest is not None else self._next()
            part = batch.slice(0, rows)
            self._rest = batch.slice(rows) if batch.num_rows > rows else None
            rows -= part.num_rows
            self._row += part.num_rows
            yield part

    def _next(self) -> pa.RecordBatch:
        try:
            batch: pa.RecordBatch = next(self._batches)
        except StopIteration:
            self._file.source.check_unchanged()
            raise CorpusError(
                f"{self._file.source.label}: ends after row {self._row}, its footer says "
                f"{self._file.rows}",
                hint="the file is damaged; write it again",
            ) from None
        except MemoryError:
            raise  # the chunk is tried again in pieces
        except Exception as error:  # a store raises errors of its own classes
            raise decode_error(self._file.source, f"rows from {self._row} on", error) from error
        return batch


def _group_of(file: PlannedFile, row: int) -> tuple[int, int]:
    """The row group that a row lies in, and the first row of that group."""
    group, first = 0, 0
    while group < len(file.group_rows) and first + file.group_rows[group] <= row:
        first += file.group_rows[group]
        group += 1
    return group, first


def _converted(column: pa.Array, field: pa.Field, file: PlannedFile) -> pa.Array:
    try:
        return convert(column, field.type)
    except LossError as error:  # the plan has looked at these values
        raise CorpusError(
            f"{printable(file.source.name)}: column {field.name!r} is {column.type}, and a value "
            f"{error.reason}",
            hint="was the file changed while it was read?",
        ) from error
