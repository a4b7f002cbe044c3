"""Plan of a run, from Parquet footers: the rows of each chunk, and the columns of predictions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from batch.corpus.columns import check_columns
from batch.corpus.sources.files import CorpusListing, find_files
from batch.corpus.sources.footers import PlannedFile, read_footer
from batch.corpus.sources.versions import CheckStop, never_stop
from batch.corpus.tasks import RunTasks
from batch.corpus.types.pass_through import kept_columns
from batch.options import CHUNK_ROWS, CorpusOptions, Shard
from schemas.errors import CorpusError
from schemas.text.model_text import TextSpec

CHUNK_BYTES = 64 * 2**20
"""Maximum uncompressed bytes of a chunk, so that chunks have few rows if rows are large."""

MAX_CHUNKS = 1_000_000
"""Maximum chunks of a corpus: each is an object in memory and a file of the output."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """The unit of work and of resuming: `rows` rows of one file from `first_row` on."""

    index: int
    file: int
    first_row: int
    rows: int


@dataclass(frozen=True)
class Plan:
    """Files, chunks, and the columns that predictions copy from the input.

    kept: schema of those columns under their output names.
    tasks: tasks to score, and the columns of their gold labels.
    listing: the files of the corpus, and those left out.
    notes: messages for the log.
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
    options: CorpusOptions,
    tasks: RunTasks,
    spec: TextSpec,
    check_stop: CheckStop = never_stop,
    *,
    leave_out: Path | None = None,
    keep_columns: bool = True,
) -> Plan:
    """Read every footer, check the columns, and cut the corpus into chunks.

    spec: how the text of the tasks is built. check_stop: called for every file; it may raise.
    leave_out: folder that is no part of the corpus, such as that of the output.
    keep_columns: predictions copy the columns of the corpus, which must then have types that the
    readers of predictions support.
    Raises CorpusError with the file, the column and the nearest name.
    """
    listing = find_files(options.corpus, leave_out=leave_out, check_stop=check_stop)
    files = []
    for source in listing.files:
        check_stop()
        files.append(read_footer(source))
    check_columns(files, options, tasks, spec, check_stop)
    pass_through = kept_columns(files if keep_columns else (), options, tasks, check_stop)
    chunk_rows = options.chunk_rows or CHUNK_ROWS["cpu"]
    _check_chunks(files, chunk_rows)
    chunks = tuple(_chunks(files, chunk_rows))
    return Plan(tuple(files), chunks, pass_through.schema, tasks, listing, pass_through.notes)


def chunks_of(plan: Plan, shard: Shard | None) -> tuple[Chunk, ...]:
    """The chunks of a shard, or all chunks if `shard` is None.

    Each chunk goes to the shard with the fewest bytes so far. Chunks of equal size thus alternate
    between shards, so that adjacent chunks, which are alike in length and language, are spread;
    with contiguous ranges one machine could get all the long texts. Unlike plain alternation this
    balances bytes where files of different sizes alternate.
    """
    if shard is None:
        return plan.chunks
    chunks, shard_bytes = [], [0] * shard.of
    for chunk in plan.chunks:
        smallest = shard_bytes.index(min(shard_bytes))
        shard_bytes[smallest] += chunk.rows * max(1, round(plan.files[chunk.file].row_bytes))
        if smallest == shard.number - 1:
            chunks.append(chunk)
    return tuple(chunks)


def _chunks(files: Sequence[PlannedFile], chunk_rows: int) -> Iterator[Chunk]:
    index = 0
    for number, file in enumerate(files):
        size = _rows_per_chunk(file, chunk_rows)
        for first in range(0, file.rows, size):
            yield Chunk(index, number, first, min(size, file.rows - first))
            index += 1
    if index == 0:  # an empty corpus still makes one part, which has the columns for readers
        yield Chunk(0, 0, 0, 0)


def _rows_per_chunk(file: PlannedFile, chunk_rows: int) -> int:
    return max(1, min(chunk_rows, int(CHUNK_BYTES / max(file.row_bytes, 1.0))))


def _check_chunks(files: Sequence[PlannedFile], chunk_rows: int) -> None:
    """Count the chunks before they are created. Raises CorpusError if there are too many."""
    total = 0
    for file in files:
        total += -(-file.rows // _rows_per_chunk(file, chunk_rows))
        if total > MAX_CHUNKS:
            raise CorpusError(
                f"{file.source.label}: its {file.rows:,} rows and those before it make "
                f"{total:,} chunks, more than {MAX_CHUNKS:,}",
                hint="use more rows per chunk with --chunk-rows, or score the corpus in several "
                "runs",
            )
