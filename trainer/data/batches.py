"""Epoch plan: the rows of each optimizer step, and their order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice, pairwise

import numpy as np
import numpy.typing as npt

from schemas.arrays import BoolArray, Int64Array
from schemas.config.models import TrainConfig
from schemas.tasks.sections import Sampling
from trainer.data.sampling import row_counts, shuffled

POOL_BATCHES = 50
"""Size of a pool of shuffled rows that are sorted by length together, in batches: batches then have
almost no padding, and still differ from epoch to epoch."""
MIN_POOLS = 4
"""Minimum number of pools, so that the batches of a small data set differ between epochs, too."""
MIN_POOL_BATCHES = 8
"""Minimum size of a pool, in batches, where rows are repeated: smaller pools need more padding."""

STEPS_PER_OCTAVE = 4
SMALLEST_STEP = 8
"""Padded lengths: the number of them between a length and its double, and the minimum difference in
tokens between two."""
TOKENS_PER_PASS = {"cpu": 2048, "cuda": 32768}
"""Maximum tokens of one forward and backward pass by device type, padding included; without an
entry, a pass has the whole batch. Activations are most of the memory that training needs: 860 MB
for 16 texts of 256 tokens in MiniLM."""


@dataclass(frozen=True)
class Batch:
    """Rows of one task in one optimizer step."""

    task: str
    rows: Sequence[int]


@dataclass(frozen=True)
class TaskRows:
    """Training rows of a task, as far as the plan depends on them.

    lengths: tokens of each row. labels: (rows, labels) bool, which labels a row has.
    sampling, threshold: see `trainer.data.sampling.row_counts`.
    """

    lengths: Sequence[int]
    labels: BoolArray
    sampling: Sampling = "none"
    threshold: float = 1.0


def padded_length(longest: int, max_tokens: int) -> int:
    """Length in tokens that a batch is padded to; there are few such lengths.

    oneDNN compiles and caches kernels for every shape, 14 MB per shape of a MiniLM step: 240
    lengths up to 256 tokens took gigabytes, 16 padded lengths take 0.2 GB.
    """
    octave = 1 << (max(longest, 2) - 1).bit_length() - 1  # largest power of 2 below `longest`
    step = max(SMALLEST_STEP, octave // STEPS_PER_OCTAVE)
    return min(-(-longest // step) * step, max(max_tokens, longest))


def pieces_per_pass(lengths: Sequence[Sequence[int]], device_type: str, *, max_tokens: int) -> int:
    """Windows and whole texts of a batch that a pass may have at most.

    lengths: of each row the tokens of its windows, or of its text.
    """
    limit = TOKENS_PER_PASS.get(device_type)
    if limit is None:
        return sum(map(len, lengths))
    longest = padded_length(max(map(max, lengths)), max_tokens)
    return max(1, limit // longest)


def passes(lengths: Sequence[Sequence[int]], device_type: str, *, max_tokens: int) -> list[slice]:
    """Parts of a batch for gradient accumulation, as equal as whole rows allow.

    lengths: of each row the tokens of its windows, or of its text. Together the parts contain every
    row once. A row with too many windows for a pass is a part of its own.
    """
    limit = pieces_per_pass(lengths, device_type, max_tokens=max_tokens)
    pieces = sum(map(len, lengths))
    room = -(-pieces // -(-pieces // limit))  # of a part, so that all are about as large
    starts, size = [0], 0
    for row, of_row in enumerate(lengths):
        if size and size + len(of_row) > room:
            starts.append(row)
            size = 0
        size += len(of_row)
    return [slice(first, end) for first, end in pairwise([*starts, len(lengths)])]


def plan_epoch(
    tasks: Mapping[str, TaskRows], train: TrainConfig, *, seed: int, epoch: int
) -> list[Batch]:
    """Plan an epoch over all tasks; the same arguments give the same plan.

    `round_robin`: tasks alternate, each with as many steps as the longest task has batches; a
    shorter task is repeated, with new sampling and order. `proportional`: each task gets a share of
    the epoch's steps in proportion to rows ** mixing_power. With `batch_tokens`, the number of
    batches differs slightly between epochs. No task counts with fewer steps than `epoch_steps`.
    """
    if not tasks:
        return []
    rng = np.random.default_rng((seed, epoch))
    first = {name: _one_pass(rows, train, rng) for name, rows in tasks.items()}
    step_counts = _share_steps(first, train)
    batches = {
        name: islice(chain(first[name], _more_passes(rows, train, rng)), step_counts[name])
        for name, rows in tasks.items()
    }
    positions = [
        (step / count, name) for name, count in step_counts.items() for step in range(count)
    ]
    return [Batch(name, next(batches[name])) for _, name in sorted(positions)]


def steps_by_epoch(tasks: Mapping[str, TaskRows], train: TrainConfig, *, seed: int) -> list[int]:
    """Optimizer steps of every epoch, by planning all epochs: 5 ms each for 10,000 rows."""
    return [len(plan_epoch(tasks, train, seed=seed, epoch=epoch)) for epoch in range(train.epochs)]


def _share_steps(passes: Mapping[str, list[list[int]]], train: TrainConfig) -> dict[str, int]:
    """Optimizer steps of each task in one epoch, from the batches of one pass over its rows."""
    steps = {name: max(len(batches), train.epoch_steps) for name, batches in passes.items()}
    if train.mixing == "round_robin":
        return dict.fromkeys(passes, max(steps.values()))
    weights = {
        name: sum(map(len, batches)) ** train.mixing_power for name, batches in passes.items()
    }
    total = sum(steps.values())
    return {
        name: max(1, round(total * weight / sum(weights.values())))
        for name, weight in weights.items()
    }


def _more_passes(
    rows: TaskRows, train: TrainConfig, rng: np.random.Generator
) -> Iterator[list[int]]:
    while True:
        yield from _one_pass(rows, train, rng)


def _one_pass(rows: TaskRows, train: TrainConfig, rng: np.random.Generator) -> list[list[int]]:
    """Batches of one pass over the sampled rows, in random order."""
    counts = row_counts(rows.labels, rows.sampling, threshold=rows.threshold, rng=rng)
    order = shuffled(counts, rng)
    lengths = np.asarray(rows.lengths)[order]
    batches = length_grouped(lengths, train, copies=int(counts.max()))
    return [order[batches[number]].tolist() for number in rng.permutation(len(batches))]


def length_grouped(
    lengths: npt.ArrayLike, train: TrainConfig, *, copies: int = 1
) -> list[Int64Array]:
    """Cut rows into batches of similar length, every row once.

    lengths: (rows,) tokens of each row, in random order: rows of the first pool, then those of the
        second, and so on, are sorted and cut.
    copies: maximum number of copies of one row. Copies have the same length, so that those in one
        pool would be in one batch: each copy gets a pool of its own if possible.
    Returns the rows of each batch, sorted by length within a pool.
    """
    row_lengths = np.asarray(lengths)
    batch_rows = _mean_batch_rows(row_lengths, train)
    batch_count = len(row_lengths) // batch_rows
    pools = max(MIN_POOLS, min(copies, batch_count // MIN_POOL_BATCHES))
    pool_batches = min(POOL_BATCHES, batch_count // pools)
    pool_rows = batch_rows * max(1, pool_batches)
    batches: list[Int64Array] = []
    for first in range(0, len(row_lengths), pool_rows):
        pool = row_lengths[first : first + pool_rows]
        by_length = np.argsort(pool, kind="stable")
        starts = _batch_starts(pool[by_length], train)
        batches += np.split(first + by_length, starts[1:])
    return batches


def _mean_batch_rows(lengths: Int64Array, train: TrainConfig) -> int:
    """Rows of a batch; with `batch_tokens`, the mean."""
    if train.batch_tokens is None:
        return train.batch_rows
    return max(1, int(train.batch_tokens / max(1.0, float(lengths.mean()))))


def _batch_starts(lengths: Int64Array, train: TrainConfig) -> list[int]:
    """First row of each batch.

    lengths: (rows,) ascending tokens of the rows of one pool, so that the last row of a batch
    determines its padded length.
    """
    if train.batch_tokens is None:
        return list(range(0, len(lengths), train.batch_rows))
    starts = [0]
    for row, tokens in enumerate(lengths.tolist()):
        if row > starts[-1] and (row + 1 - starts[-1]) * tokens > train.batch_tokens:
            starts.append(row)
    return starts
