"""The plan of a run, from Parquet footers alone: which rows make up each chunk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from batch.inputs import SourceFile, find_files
from batch.options import RunOptions, Shard
from batch.tasks import RunTasks
from schemas.errors import CorpusError, listing, nearest
from schemas.tables import END, ENTITY, START, is_text

CHUNK_BYTES = 64 * 2**20
"""Uncompressed bytes of a chunk at most, so that rows of megabytes make smaller chunks."""


@dataclass(frozen=True)
class PlannedFile:
    """A file whose footer was read.

    group_rows: rows of each row group. row_bytes: mean uncompressed bytes of a row.
    """

    source: SourceFile
    schema: pa.Schema
    group_rows: tuple[int, ...]
    row_bytes: float

    @property
    def rows(self) -> int:
        """Rows of the file."""
        return sum(self.group_rows)


@dataclass(frozen=True)
class Chunk:
    """The unit of work and of resuming: `rows` rows of one file from `first_row` on."""

    index: int
    file: int
    first_row: int
    rows: int


@dataclass(frozen=True)
class Plan:
    """Files, chunks, and the columns that predictions take over from the input.

    kept: schema of those columns under their output names.
    tasks: what is scored, and the columns of their gold labels.
    """

    files: tuple[PlannedFile, ...]
    chunks: tuple[Chunk, ...]
    kept: pa.Schema
    tasks: RunTasks

    @property
    def rows(self) -> int:
        """Rows of the whole corpus."""
        return sum(file.rows for file in self.files)


def open_parquet(source: SourceFile) -> pq.ParquetFile:
    """Open a file. Raises CorpusError if it is not Parquet, or cut short."""
    try:
        handle = source.path if source.is_local else source.filesystem.open(source.path)
        return pq.ParquetFile(handle)
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:  # a column's name, perhaps
        raise CorpusError(
            f"{source.name}: not a readable Parquet file: {_first_line(error)}",
            hint="is it Parquet, and was it copied whole?",
        ) from error


def make_plan(options: RunOptions, tasks: RunTasks, *, entity_markers: bool) -> Plan:
    """Read every footer, check the columns, and cut the corpus into chunks.

    entity_markers: the tasks need `entity`, `start` and `end`.
    Raises CorpusError with the file, the column and the nearest name.
    """
    found = find_files(options.corpus, leave_out=options.output)
    files = tuple(_read_footer(source) for source in found)
    for file in files:
        _check_columns(file, options, tasks, entity_markers=entity_markers)
    chunks = tuple(_chunks(files, options.chunk_rows))
    return Plan(files, chunks, _kept_schema(files, options, tasks), tasks)


def chunks_of(plan: Plan, shard: Shard | None) -> tuple[Chunk, ...]:
    """The chunks that a shard does; all of them without one.

    Each chunk goes to the shard with the fewest bytes so far. Of equal chunks every n-th goes to
    the same shard, so that neighbours, which are alike in length and language, are spread; a
    range each would give one machine all the long ones. Unlike every n-th, bytes stay even where
    files of different sizes alternate.
    """
    if shard is None:
        return plan.chunks
    mine, given = [], [0] * shard.of
    for chunk in plan.chunks:
        least = given.index(min(given))
        given[least] += chunk.rows * max(1, round(plan.files[chunk.file].row_bytes))
        if least == shard.number - 1:
            mine.append(chunk)
    return tuple(mine)


def _read_footer(source: SourceFile) -> PlannedFile:
    with open_parquet(source) as file:
        footer = file.metadata
        groups = [footer.row_group(index) for index in range(footer.num_row_groups)]
        rows = sum(group.num_rows for group in groups)
        size = sum(group.total_byte_size for group in groups)
        try:
            schema = file.schema_arrow
        except (pa.ArrowException, NotImplementedError) as error:
            raise CorpusError(
                f"{source.name}: its schema cannot be read: {_first_line(error)}",
                hint="write it again with a current Parquet writer",
            ) from error
        return PlannedFile(
            source=source,
            schema=schema.remove_metadata(),
            group_rows=tuple(group.num_rows for group in groups),
            row_bytes=size / max(rows, 1),
        )


def _chunks(files: Sequence[PlannedFile], chunk_rows: int) -> Iterator[Chunk]:
    index = 0
    for number, file in enumerate(files):
        size = max(1, min(chunk_rows, int(CHUNK_BYTES / max(file.row_bytes, 1.0))))
        for first in range(0, file.rows, size):
            yield Chunk(index, number, first, min(size, file.rows - first))
            index += 1
    if index == 0:  # an empty corpus still gives one part, so that readers find the columns
        yield Chunk(0, 0, 0, 0)


def _check_columns(
    file: PlannedFile, options: RunOptions, tasks: RunTasks, *, entity_markers: bool
) -> None:
    names = [*file.schema.names, *(key for key, _ in file.source.partitions)]
    doubled = sorted({name for name in file.schema.names if file.schema.names.count(name) > 1})
    if doubled:
        raise CorpusError(
            f"{file.source.name}: column names must differ; doubled: {listing(doubled)}",
            hint="rename one of each pair",
        )
    taken = [name for name in names if name in tasks.reserved and tasks.output_name(name) == name]
    if taken:
        raise CorpusError(
            f"{file.source.name}: has columns that predictions add themselves: {listing(taken)}",
            hint="; ".join(["rename them", *tasks.gold_hints(taken)]),
        )
    _require_text(file, options.text_column, "--text-column")
    for column in tasks.gold.values():
        _require(file, column, "--gold-column")
        _check_gold_type(file, column)
    keys = {key for key, _ in file.source.partitions}
    for name in sorted(options.named_columns - keys):
        _require(file, name, "its option")
    if options.title_column in file.schema.names:
        _require_text(file, options.title_column, "--title-column")
    if entity_markers:
        if ENTITY in file.schema.names:
            _require_text(file, ENTITY, None)
        for name in (START, END):
            _require(file, name, None)
            kind = file.schema.field(name).type
            if not pa.types.is_integer(kind):
                raise CorpusError(
                    f"{file.source.name}: column {name!r} is {kind}; character offsets are integers"
                )


def _require(file: PlannedFile, name: str, option: str | None) -> None:
    if name in file.schema.names:
        return
    close = nearest(name, file.schema.names)
    guess = f"did you mean {close!r}? " if close else ""
    mend = f"Name the column with {option}" if option else "This task marks an entity in the text"
    raise CorpusError(
        f"{file.source.name}: no column {name!r}; there are {listing(file.schema.names)}",
        hint=guess + mend,
    )


def _require_text(file: PlannedFile, name: str, option: str | None) -> None:
    _require(file, name, option)
    kind = file.schema.field(name).type
    if not is_text(kind) and not pa.types.is_null(kind):  # a column of nulls only may have no type
        raise CorpusError(
            f"{file.source.name}: column {name!r} is {kind}, not text",
            hint=f"name a string column with {option}" if option else "it must be a string column",
        )


def _check_gold_type(file: PlannedFile, name: str) -> None:
    kind = file.schema.field(name).type
    inner = kind.value_type if pa.types.is_list(kind) or pa.types.is_large_list(kind) else kind
    if not is_text(inner):
        raise CorpusError(
            f"{file.source.name}: gold column {name!r} is {kind}; expected a list of strings or a "
            "string"
        )


def _kept_schema(files: Sequence[PlannedFile], options: RunOptions, tasks: RunTasks) -> pa.Schema:
    """The columns of all files together; a file that lacks one gets nulls."""
    merged: pa.Schema | None = None
    for file in files:
        fields = [
            field.with_name(tasks.output_name(field.name)).with_nullable(True)
            for field in file.schema
            if options.keep_text or field.name != options.text_column
        ]
        known = {field.name for field in fields}
        fields += [pa.field(k, pa.string()) for k, _ in file.source.partitions if k not in known]
        _check_doubled(fields, file, tasks)
        ours = pa.schema([field.remove_metadata() for field in fields])
        try:
            merged = (
                ours
                if merged is None
                else pa.unify_schemas([merged, ours], promote_options="permissive")
            )
        except pa.ArrowException as error:
            raise CorpusError(
                f"{file.source.name}: columns do not agree with the files before it: "
                f"{_first_line(error)}",
                hint="score files of different layouts in runs of their own",
            ) from error
    assert merged is not None
    return merged


def _check_doubled(fields: list[pa.Field], file: PlannedFile, tasks: RunTasks) -> None:
    names = [field.name for field in fields]
    for column in tasks.gold.values():
        renamed = tasks.output_name(column)
        if names.count(renamed) > 1:
            raise CorpusError(
                f"{file.source.name}: the gold column {column!r} becomes {renamed!r}, which is "
                "there already",
                hint="rename one of the two",
            )


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
