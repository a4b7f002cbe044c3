"""`--dry-run`: what a run would do, how long it would take and how much memory it would need here.

Everything is measured on a sample: rows from places spread over the corpus are tokenized, and a few
batches of their shapes are run.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from batch.corpus.plan import Chunk, Plan, chunks_of
from batch.corpus.reader import ChunkReader
from batch.machine.cpu import free_memory_bytes
from batch.options import CorpusOptions, RunOptions
from batch.pipeline.run import check_gold_labels, choose_model, open_model, plan_run
from batch.pipeline.stop import StopSwitch
from batch.scoring.packing import Shape, fill
from batch.scoring.runner import GraphRunner
from batch.scoring.scorer import Scorer
from schemas.printable import printable
from schemas.text.model_text import EMPTY
from schemas.text.tokens import TokenizedText

PLACES = 16
"""Places of the corpus that rows are taken from."""
ROWS_A_PLACE = 32
DEEPEST_ROW = 8192
"""Rows of a row group that are decoded at most to get to a place inside it."""
TIMED_SHAPES = 4
TIMED_S = 2.0
"""Time given to the batches of each shape."""
TIMED_BATCHES = 3
COPIES_OF_A_CHUNK = 5
"""At most: one chunk is read (Arrow columns and Python texts) while one is scored (the columns that
are kept) and one is written (those and the part)."""


@dataclass(frozen=True)
class Sample:
    """Rows from all over the corpus.

    rows: how many were looked at. tokenized: those of them that can be scored.
    rows_by_place, tokens_by_place: the same counted by place. seconds_a_row: to read and tokenize.
    """

    rows: int
    tokenized: tuple[TokenizedText, ...]
    rows_by_place: tuple[int, ...]
    tokens_by_place: tuple[int, ...]
    seconds_a_row: float


@dataclass(frozen=True)
class Estimate:
    """What a run would do.

    files: of the whole corpus. rows, chunks: of the shard, where there are shards.
    tokens: of those rows, special ones included, estimated from a sample of the whole corpus.
    tokens_error: standard error of that, as a share of it. scorable, truncated: shares of the rows.
    seconds: of scoring from the start. peak_memory_bytes: of the process.
    free_memory_bytes: what is available now; None where that is not known.
    left_out: which files of the corpus are not read; None if all are.
    """

    task: str
    answer: str
    precision: str
    bundle_sha256: str
    device: str
    device_why: str
    files: int
    rows: int
    chunks: int
    kept_columns: tuple[str, ...]
    sampled_rows: int
    scorable: float
    truncated: float
    tokens: int
    tokens_error: float
    tokens_per_s: float
    seconds: float
    peak_memory_bytes: int
    free_memory_bytes: int | None
    left_out: str | None = None

    def facts(self) -> dict[str, object]:
        """Every field by name, for JSON."""
        return asdict(self)

    def lines(self) -> Iterator[str]:
        """The same for people."""
        yield f"task:    {self.task}, {self.answer}, {self.precision}"
        yield f"bundle:  {self.bundle_sha256}"
        yield f"device:  {self.device} ({self.device_why})"
        yield f"corpus:  {self.files:,} files, {self.rows:,} rows in {self.chunks:,} chunks"
        if self.left_out is not None:
            yield self.left_out
        yield f"columns: {printable(', '.join(self.kept_columns)) or 'none'}"
        yield (
            f"sample:  {self.sampled_rows:,} rows; {self.scorable:.1%} can be scored, "
            f"{self.truncated:.1%} are read only in part"
        )
        yield f"tokens:  about {self.tokens:,}, give or take {2 * self.tokens_error:.0%}"
        yield (
            f"time:    about {_duration(self.seconds)} at {self.tokens_per_s:,.0f} tokens/s "
            "(less where texts repeat)"
        )
        free = self.free_memory_bytes
        of_free = "" if free is None else f" of {free / 1e6:,.0f} MB that are free"
        yield f"memory:  about {self.peak_memory_bytes / 1e6:,.0f} MB{of_free}"


def estimate(options: RunOptions, switch: StopSwitch) -> Estimate:
    """Check everything that can be checked without scoring, and measure the rest on a sample.

    Raises whatever a run would raise before it scores.
    """
    model = choose_model(options.model)
    options = options.on(model.device.kind)
    scorer = open_model(options.model, model)
    plan = plan_run(options.corpus, scorer, switch.check, leave_out=options.output.folder)
    check_gold_labels(options.corpus, plan, scorer, switch.check)
    chunks = chunks_of(plan, options.output.shard)
    rows = sum(chunk.rows for chunk in chunks)
    sample = _take_sample(plan, options.corpus, scorer)
    share = rows / max(sample.rows, 1)
    sampled_tokens = sum(sample.tokens_by_place)
    tokens = round(sampled_tokens * share)
    scoring_s = _scoring_seconds(scorer.runner, sample, rows=rows, chunks=max(len(chunks), 1))
    seconds = scoring_s + sample.seconds_a_row * rows
    return Estimate(
        task=",".join(plan.tasks.names),
        answer=scorer.answer,
        precision=scorer.metadata.precision,
        bundle_sha256=model.bundle.sha256,
        device=scorer.runner.device.name,
        device_why=scorer.runner.device.why,
        files=len(plan.files),
        rows=rows,
        chunks=len(chunks),
        kept_columns=tuple(plan.kept.names),
        sampled_rows=sample.rows,
        scorable=len(sample.tokenized) / max(sample.rows, 1),
        truncated=sum(text.truncated for text in sample.tokenized) / max(sample.rows, 1),
        tokens=tokens,
        tokens_error=_standard_error(sample),
        tokens_per_s=tokens / seconds if seconds else 0.0,
        seconds=seconds,
        peak_memory_bytes=_peak_bytes() + COPIES_OF_A_CHUNK * _largest_chunk_bytes(plan),
        free_memory_bytes=free_memory_bytes(),
        left_out=plan.listing.summary(),
    )


def _take_sample(plan: Plan, options: CorpusOptions, scorer: Scorer) -> Sample:
    metadata = scorer.metadata
    reader = ChunkReader(plan, options, metadata.text, max_tokens=metadata.most_tokens)
    tokenized: list[TokenizedText] = []
    rows_by_place, tokens_by_place, seconds = [], [], 0.0
    for place in _places(plan):
        texts = reader.read(place).texts
        started = time.perf_counter()  # what came before it in its row group would count too much
        found = scorer.runner.tokenize(
            [text for text in texts if text is not None and text != EMPTY]
        )
        seconds += time.perf_counter() - started
        tokenized += found
        rows_by_place.append(len(texts))
        tokens_by_place.append(sum(len(text.ids) for text in found))
    rows = sum(rows_by_place)
    return Sample(
        rows,
        tuple(tokenized),
        tuple(rows_by_place),
        tuple(tokens_by_place),
        seconds / max(rows, 1),
    )


def _places(plan: Plan) -> Iterator[Chunk]:
    """Short runs of rows, evenly over the corpus, each inside one file; all rows of a small one."""
    ends = np.cumsum([file.rows for file in plan.files])
    wanted = np.unique(np.linspace(0, plan.rows, PLACES, endpoint=False).astype(int))
    taken = -1
    for row in wanted if plan.rows else ():
        number = int(np.searchsorted(ends, row, side="right"))
        file = plan.files[number]
        before = int(ends[number]) - file.rows
        first = max(_reachable(file.group_rows, int(row) - before), taken + 1 - before, 0)
        rows = min(ROWS_A_PLACE, file.rows - first)
        if rows > 0:
            taken = before + first + rows - 1
            yield Chunk(index=0, file=number, first_row=first, rows=rows)


def _reachable(group_rows: Sequence[int], row: int) -> int:
    """`row`, or where it lies deep inside its row group, a row nearer to the group's beginning."""
    starts = np.concatenate([[0], np.cumsum(group_rows)])
    start = int(starts[np.searchsorted(starts, row, side="right") - 1])
    return start + min(row - start, DEEPEST_ROW)


def _standard_error(sample: Sample) -> float:
    """Of the mean number of tokens a row, as a share of it, rows of a place being alike.

    The ratio estimator for clusters (Cochran, 1977, eq. 6.9); 0 where there is one place only.
    """
    rows, tokens = np.array(sample.rows_by_place), np.array(sample.tokens_by_place)
    if len(rows) < 2 or tokens.sum() == 0:
        return 0.0
    rest = tokens - rows * (tokens.sum() / rows.sum())
    spread = np.sqrt((rest**2).sum() / (len(rows) * (len(rows) - 1)))
    return float(spread / tokens.mean())


def _scoring_seconds(runner: GraphRunner, sample: Sample, *, rows: int, chunks: int) -> float:
    """Time of all batches: how many there will be of each shape, times what one takes.

    A bucket whose rows do not fill its last batch pays for a whole one, half a batch on average, in
    each chunk. Shapes that are not timed lie between those that are.
    """
    by_shape: dict[Shape, list[TokenizedText]] = {}
    pieces = [piece for text in sample.tokenized for piece in text.pieces]
    for text in sorted(pieces, key=lambda piece: len(piece.ids)):
        by_shape.setdefault(runner.shapes.shape_of(len(text.ids)), []).append(text)
    if not by_shape:
        return 0.0
    shapes = list(by_shape)  # by length
    chosen = np.unique(np.linspace(0, len(shapes) - 1, TIMED_SHAPES).astype(int))
    timed = [(shapes[at].seq, _batch_seconds(runner, shapes[at])) for at in chosen]
    lengths, seconds = zip(*timed, strict=True)
    total = 0.0
    for shape, texts in by_shape.items():
        of_chunk = len(texts) / sample.rows * rows / chunks  # rows
        batches = of_chunk / shape.rows + 0.5 * min(of_chunk, 1.0)
        total += batches * chunks * float(np.interp(shape.seq, lengths, seconds))
    return total


def _batch_seconds(runner: GraphRunner, shape: Shape) -> float:
    """Time of a batch of dummy rows, with as many others beside it as in a run: the median."""
    batches = [fill([], [], shape, runner.pad_id)] * runner.streams
    seconds: list[float] = []
    while len(seconds) <= TIMED_BATCHES and sum(seconds) < TIMED_S:
        started = time.perf_counter()
        for _ in runner.run_batches(batches):
            pass
        seconds.append((time.perf_counter() - started) / len(batches))
    return float(np.median(seconds[1:] or seconds))  # the first of a shape also allocates


def _largest_chunk_bytes(plan: Plan) -> int:
    return max(round(plan.files[chunk.file].row_bytes * chunk.rows) for chunk in plan.chunks)


def _peak_bytes() -> int:
    """Most memory that this process has had so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # kilobytes but on macOS


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"
