"""What becomes of a chunk: read and tokenized, scored, written, each step on its own thread."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from threading import Lock

import numpy as np
import pyarrow as pa

from batch.corpus.gold import gold_targets
from batch.corpus.plan import Chunk, Plan
from batch.corpus.reader import ChunkReader, Rows
from batch.machine.memory import give_back_memory, is_out_of_memory
from batch.options import CorpusOptions
from batch.output.identity import RunIdentity
from batch.output.locked import LockedOutput
from batch.output.parts import PartFormat, TaskColumns, prediction_table, quarantine_table
from batch.pipeline.progress import RunProgress
from batch.pipeline.stop import StopSwitch
from batch.pipeline.write_behind import WriteBehind
from batch.report.stats import RunStats, TaskGold, count_rows
from batch.scoring.prefetch import make_ahead
from batch.scoring.scorer import Scored, Scorer, concatenate
from schemas.bundle.metadata import ArtefactMetadata
from schemas.errors import NarrascanError, OutOfMemoryError
from schemas.kinds import KINDS
from schemas.tables import ProbabilityFormat
from schemas.tasks.parents import parents_of
from schemas.text.model_text import EMPTY, ModelText, text_hash
from schemas.text.tokens import TokenizedText


@dataclass(frozen=True)
class ReadChunk:
    """A chunk, or a part of one, that is ready to be scored.

    rows: without their texts, of which only the tokens are needed from here on.
    scorable_rows: the row of each of `tokenized`. statuses: what became of every row.
    text_hashes: hash of the model text of every row that has one.
    """

    rows: Rows
    scorable_rows: Sequence[int]
    tokenized: Sequence[TokenizedText]
    statuses: Sequence[str]
    text_hashes: Sequence[str | None]


@dataclass(frozen=True)
class ScoredChunk:
    """A chunk, or a part of one, that is ready to be written; one result a row."""

    rows: Rows
    scored: Scored
    statuses: Sequence[str]
    text_hashes: Sequence[str | None]


class ChunkWorker:
    """The steps of a chunk. `read` may run on one thread, `score` on another, `write` on a third.

    finished: index of each chunk that was written. rows, tokens: how many of them were scored.
    """

    def __init__(
        self,
        plan: Plan,
        corpus: CorpusOptions,
        probabilities: ProbabilityFormat,
        scorer: Scorer,
        output: LockedOutput,
        identity: RunIdentity,
        progress: RunProgress,
        switch: StopSwitch,
    ) -> None:
        self.finished: set[int] = set()
        self.rows = self.tokens = 0
        self._counting = Lock()
        self._plan, self._corpus, self._scorer = plan, corpus, scorer
        self._output, self._identity = output, identity
        self._progress, self._switch = progress, switch
        metadata = scorer.metadata
        self._reader = ChunkReader(plan, corpus, metadata.text, max_tokens=metadata.most_tokens)
        self._format = PartFormat(
            tuple(
                TaskColumns(task.task, task.kind, task.labels, task.output.width)
                for task in scorer.tasks
            ),
            probabilities,
            identity.model,
            scorer.neighbours,
        )
        self._most_rows = max(chunk.rows for chunk in plan.chunks)

    def read(self, chunk: Chunk) -> ReadChunk:
        """Read and tokenize. Raises CorpusError if the file's pages cannot be decoded."""
        rows = self._reader.read(chunk)
        scorable_rows = [row for row, text in enumerate(rows.texts) if _is_scorable(text)]
        texts = [text for text in rows.texts if text is not None and _is_scorable(text)]
        tokenized = self._scorer.runner.tokenize(texts)
        statuses = ["empty" if reason is None else "quarantined" for reason in rows.reasons]
        for row, text in zip(scorable_rows, tokenized, strict=True):
            statuses[row] = text.status
        hashes: list[str | None] = [None] * len(statuses)
        for row, read in zip(scorable_rows, texts, strict=True):
            hashes[row] = text_hash(read)
        return ReadChunk(replace(rows, texts=()), scorable_rows, tokenized, statuses, hashes)

    def score(self, chunk: ReadChunk) -> ScoredChunk:
        """Score what has text. Raises StoppedError between batches if the run should end."""
        self._switch.check()
        seen_rows = seen_tokens = 0

        def on_batch(rows: int, tokens: int) -> None:
            nonlocal seen_rows, seen_tokens
            seen_rows, seen_tokens = seen_rows + rows, seen_tokens + tokens
            self._advance(rows, tokens)
            self._switch.check()

        try:
            scored = self._scorer.score_tokens(chunk.tokenized, on_batch=on_batch)
        except Exception:
            self._advance(-seen_rows, -seen_tokens)  # they may be scored again
            raise
        self._advance(len(chunk.statuses) - len(chunk.scorable_rows), 0)
        result_of_row = np.full(len(chunk.statuses), -1, np.int64)
        result_of_row[chunk.scorable_rows] = np.arange(len(chunk.scorable_rows))
        by_row = scored.take(result_of_row)
        return ScoredChunk(chunk.rows, by_row, chunk.statuses, chunk.text_hashes)

    def score_in_order(self, chunks: Iterable[ReadChunk]) -> Generator[ScoredChunk]:
        """Score chunks, as many at the same time as suits the device."""
        at_once = self._scorer.runner.chunks_at_once
        if at_once == 1:
            return (self.score(chunk) for chunk in chunks)
        return make_ahead(chunks, self.score, threads=at_once)

    def write(self, chunk: Chunk, scored: ScoredChunk) -> None:
        """Count and write: part, quarantine, and then the marker."""
        id_column = self._corpus.id_column
        source = self._plan.files[chunk.file].source.name
        part = prediction_table(
            scored.rows,
            scored.scored,
            scored.statuses,
            scored.text_hashes,
            self._format,
            chunk=chunk,
            source=source,
        )
        bad = quarantine_table(scored.rows, chunk=chunk, source=source, id_column=id_column)
        self._output.publish_chunk(
            self._identity.address(chunk), part, bad, _count(scored, self._scorer.tasks)
        )
        self.finished.add(chunk.index)
        self.rows += chunk.rows
        pa.default_memory_pool().release_unused()  # give back what the chunk needed

    def _advance(self, rows: int, tokens: int) -> None:
        """Count rows as scored; several threads may do that."""
        with self._counting:
            self.tokens += tokens
            self._progress.advance(rows, tokens)

    def do_in_pieces(self, chunk: Chunk) -> None:
        """Read, score and write a chunk with little memory, to the same bytes.

        As many rows at once as worked for the chunks before; half as many when memory runs out.
        Raises OutOfMemoryError if it is too little for a single row, or for writing the chunk.
        """
        pieces: list[ScoredChunk] = []
        done = 0
        while done < chunk.rows or not pieces:
            rows = min(self._most_rows, chunk.rows - done)
            piece = replace(chunk, first_row=chunk.first_row + done, rows=rows)
            scored = self._try(piece)
            give_back_memory()  # the next piece needs as much again
            if scored is None:
                self._most_rows = (rows + 1) // 2
            else:
                pieces.append(scored)
                done += rows
        try:
            self.write(chunk, _joined(pieces))
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            raise self._too_little(chunk, error, "a smaller --chunk-rows needs less") from error

    def _try(self, piece: Chunk) -> ScoredChunk | None:
        """Read and score some rows; None if that takes more memory than there is."""
        try:
            return self.score(self.read(piece))
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            if piece.rows > 1:
                return None
            if isinstance(error, NarrascanError):  # a damaged page may ask for absurd amounts
                raise
            hint = "a smaller --max-tokens-per-batch needs less"
            if self._scorer.runner.device.kind == "cuda":
                hint += ", a larger --gpu-memory-limit allows more"
            raise self._too_little(piece, error, hint) from error

    def _too_little(self, chunk: Chunk, error: Exception, hint: str) -> OutOfMemoryError:
        first, last = chunk.first_row, chunk.first_row + chunk.rows - 1
        rows = f"row {first}" if first == last else f"rows {first} to {last}"
        source = self._plan.files[chunk.file].source.name
        reason = str(error) or type(error).__name__
        return OutOfMemoryError(
            f"{source}, {rows}: not enough memory: {reason}",
            hint=f"give the run more memory, and the same command resumes; {hint}",
        )


def do_chunks(worker: ChunkWorker, chunks: Sequence[Chunk], progress: RunProgress) -> None:
    """Finish chunks, reading the next and writing the last one meanwhile.

    When memory runs out, the rest is done one chunk at a time and in pieces.
    """
    reason = _do_side_by_side(worker, chunks)
    if reason is None:
        return
    progress.note(
        "memory",
        f"out of memory ({reason}); continuing with one chunk at a time, in smaller pieces",
    )
    for chunk in chunks:
        if chunk.index not in worker.finished:
            give_back_memory()
            worker.do_in_pieces(chunk)


def _do_side_by_side(worker: ChunkWorker, chunks: Sequence[Chunk]) -> str | None:
    """Returns None, or the message of the error if memory ran out."""
    try:
        with (
            closing(make_ahead(chunks, worker.read)) as ready,
            WriteBehind() as behind,
            closing(worker.score_in_order(ready)) as done,
        ):
            for chunk, scored in zip(chunks, done, strict=True):
                behind.hand_over(partial(worker.write, chunk, scored))
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        return str(error) or type(error).__name__
    return None


def _is_scorable(text: ModelText | None) -> bool:
    return text is not None and text != EMPTY


def _count(scored: ScoredChunk, tasks: Sequence[ArtefactMetadata]) -> RunStats:
    """Count the rows of a chunk for each task."""
    return RunStats(
        {
            metadata.task: count_rows(
                kind=metadata.kind,
                width=metadata.output.width,
                domains=scored.rows.domains,
                statuses=scored.statuses,
                tokens=scored.scored.tokens,
                decided=scored.scored.tasks[metadata.task],
                gold=_gold(scored.rows, metadata),
            )
            for metadata in tasks
        }
    )


def _gold(rows: Rows, metadata: ArtefactMetadata) -> TaskGold | None:
    """Gold values of a task, None if the run has none; those of this chunk may all be null."""
    if metadata.task not in rows.gold:
        return None
    kind, gold = KINDS[metadata.kind], rows.gold[metadata.task]
    return TaskGold(*gold_targets(kind, gold, metadata.labels, parents_of(metadata)))


def _joined(pieces: Sequence[ScoredChunk]) -> ScoredChunk:
    """Pieces of one chunk, in order, as if they had never been apart."""
    if len(pieces) == 1:
        return pieces[0]
    rows, scored = [piece.rows for piece in pieces], [piece.scored for piece in pieces]
    return ScoredChunk(
        rows=Rows(
            texts=(),
            reasons=[reason for piece in rows for reason in piece.reasons],
            domains=[domain for piece in rows for domain in piece.domains],
            gold={
                task: [gold for piece in rows for gold in piece.gold[task]] for task in rows[0].gold
            },
            kept=pa.concat_tables([piece.kept for piece in rows]).combine_chunks(),
        ),
        scored=concatenate(scored),
        statuses=[status for piece in pieces for status in piece.statuses],
        text_hashes=[text for piece in pieces for text in piece.text_hashes],
    )
