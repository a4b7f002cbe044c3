"""The plan of a run, from Parquet footers: which rows make up each chunk, and its columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from batch.corpus.columns import check_columns
from batch.corpus.sources.files import CorpusListing, find_files
from batch.corpus.sources.footers import PlannedFile, read_footer
from batch.corpus.sources.versions import CheckStop, never_stop
from batch.corpus.tasks import RunTasks
from batch.corpus.types.kept import kept_columns
from batch.options import RunOptions, Shard
from schemas.errors import CorpusError
from schemas.text.model_text import TextSpec

CHUNK_BYTES = 64 * 2**20
"""Uncompressed bytes of a chunk at most, so that rows of megabytes make smaller chunks."""

MAX_CHUNKS = 1_000_000
"""Chunks of a corpus at most: each is an object in memory and a file of the output."""


@dataclass(frozen=True, slots=True)
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
    listing: the files as they were found, and what was left out.
    notes: for the log.
    """

    files: tuple[PlannedFile, ...]
    chunks: tuple[Chunk, ...]
    kept: pa.Schema
    tasks: RunTasks
    listing: CorpusListing
    notes: tuple[str, ...] = ()

    @property
    def rows(self) -> int:
        """Rows of the whole corpus."""
        return sum(file.rows for file in self.files)


def make_plan(
    options: RunOptions,
    tasks: RunTasks,
    spec: TextSpec,
    check_stop: CheckStop = never_stop,
    *,
    keep_columns: bool = True,
) -> Plan:
    """Read every footer, check the columns, and cut the corpus into chunks.

    spec: how the text of the tasks is built. check_stop: called for every file; it may raise.
    keep_columns: predictions take over the columns of the corpus, which must therefore be such that
    their readers can use them.
    Raises CorpusError with the file, the column and the nearest name.
    """
    listing = find_files(options.corpus, leave_out=options.output, check_stop=check_stop)
    files = []
    for source in listing.files:
        check_stop()
        files.append(read_footer(source))
    check_columns(files, options, tasks, spec, check_stop)
    kept = kept_columns(files if keep_columns else (), options, tasks, check_stop)
    _check_chunks(files, options.chunk_rows)
    chunks = tuple(_chunks(files, options.chunk_rows))
    return Plan(tuple(files), chunks, kept.schema, tasks, listing, kept.notes)


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


def _chunks(files: Sequence[PlannedFile], chunk_rows: int) -> Iterator[Chunk]:
    index = 0
    for number, file in enumerate(files):
        size = _rows_a_chunk(file, chunk_rows)
        for first in range(0, file.rows, size):
            yield Chunk(index, number, first, min(size, file.rows - first))
            index += 1
    if index == 0:  # an empty corpus still gives one part, so that readers find the columns
        yield Chunk(0, 0, 0, 0)


def _rows_a_chunk(file: PlannedFile, chunk_rows: int) -> int:
    return max(1, min(chunk_rows, int(CHUNK_BYTES / max(file.row_bytes, 1.0))))


def _check_chunks(files: Sequence[PlannedFile], chunk_rows: int) -> None:
    """Count the chunks before any is made. Raises CorpusError if there are too many."""
    total = 0
    for file in files:
        total += -(-file.rows // _rows_a_chunk(file, chunk_rows))
        if total > MAX_CHUNKS:
            raise CorpusError(
                f"{file.source.label}: its {file.rows:,} rows and those before it make "
                f"{total:,} chunks, more than {MAX_CHUNKS:,}",
                hint="take more rows a chunk with --chunk-rows, or score the corpus in several "
                "runs",
            )
