"""Which rows make up each optimiser step of an epoch, and in what order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice

import numpy as np
import numpy.typing as npt

from schemas.arrays import BoolArray, Int64Array
from schemas.config import TrainConfig
from schemas.tasks.sections import Sampling
from trainer.data.sampling import row_counts, shuffled

POOL_BATCHES = 50
"""Batches' worth of shuffled rows that are sorted by length together: batches are then nearly
free of padding, and still differ from epoch to epoch."""
LEAST_POOLS = 4
"""Pools that a small data set is cut into, so that its batches differ from epoch to epoch too."""
LEAST_POOL_BATCHES = 8
"""Batches' worth that is left of a pool where rows come up often: with less, padding grows."""

STEPS_BETWEEN_DOUBLES = 4
SMALLEST_STEP = 8
"""Padded lengths: this many between a length and its double, and tokens between two at least."""
TOKENS_PER_PASS = {"cpu": 2048}
"""Tokens of one forward and backward pass by type of device, padding included; others take a batch
whole. Activations are most of the memory that training takes: 860 MB for 16 texts of 256 tokens in
MiniLM."""


@dataclass(frozen=True)
class Batch:
    """Rows of one task that are trained on together."""

    task: str
    rows: Sequence[int]


@dataclass(frozen=True)
class TaskRows:
    """What the plan needs to know of a task's training rows.

    lengths: tokens of each row. labels: (rows, labels) bool, which labels a row has.
    sampling, threshold: how often rows come up, see `trainer.data.sampling.row_counts`.
    """

    lengths: Sequence[int]
    labels: BoolArray
    sampling: Sampling = "none"
    threshold: float = 1.0


def padded_length(longest: int, max_tokens: int) -> int:
    """Tokens that a batch is padded to, so that few shapes occur.

    oneDNN compiles kernels for every shape and keeps them, 14 MB for each that a step of MiniLM
    meets: 240 lengths up to 256 tokens took gigabytes, 16 padded lengths take a fifth of one.
    """
    octave = 1 << (max(longest, 2) - 1).bit_length() - 1  # largest power of 2 below `longest`
    step = max(SMALLEST_STEP, octave // STEPS_BETWEEN_DOUBLES)
    return min(-(-longest // step) * step, max(max_tokens, longest))


def passes(lengths: Sequence[int], device_type: str, *, max_tokens: int) -> list[slice]:
    """Parts of a batch whose gradients are added up, as even as whole rows allow.

    lengths: tokens of each row. Together the parts hold every row once.
    """
    limit = TOKENS_PER_PASS.get(device_type)
    rows, tokens = len(lengths), len(lengths) * padded_length(max(lengths), max_tokens)
    count = 1 if limit is None else min(rows, -(-tokens // limit))
    size = -(-rows // count)
    return [slice(first, first + size) for first in range(0, rows, size)]


def plan_epoch(
    tasks: Mapping[str, TaskRows], train: TrainConfig, *, seed: int, epoch: int
) -> list[Batch]:
    """Plan an epoch over all tasks; the same arguments give the same plan.

    `round_robin`: tasks take turns, as many turns as the longest has batches; a shorter one starts
    again, sampled and shuffled again. `proportional`: each task gets a share of the epoch's steps
    in proportion to rows ** mixing_power. Where `batch_tokens` cuts the batches, the number of
    them differs a little from epoch to epoch.
    """
    rng = np.random.default_rng((seed, epoch))
    first = {name: _one_pass(rows, train, rng) for name, rows in tasks.items()}
    turns = _share_steps(first, train)
    drawn = {
        name: islice(chain(first[name], _more_passes(rows, train, rng)), turns[name])
        for name, rows in tasks.items()
    }
    places = [(place / count, name) for name, count in turns.items() for place in range(count)]
    return [Batch(name, next(drawn[name])) for _, name in sorted(places)]


def steps_by_epoch(tasks: Mapping[str, TaskRows], train: TrainConfig, *, seed: int) -> list[int]:
    """Optimiser steps of every epoch, found by planning them all: 5 ms each for 10,000 rows."""
    return [len(plan_epoch(tasks, train, seed=seed, epoch=epoch)) for epoch in range(train.epochs)]


def _share_steps(passes: Mapping[str, list[list[int]]], train: TrainConfig) -> dict[str, int]:
    """Optimiser steps of each task in one epoch, from one pass over the rows of each."""
    if train.mixing == "round_robin":
        return dict.fromkeys(passes, max(len(batches) for batches in passes.values()))
    weights = {
        name: sum(map(len, batches)) ** train.mixing_power for name, batches in passes.items()
    }
    total = sum(len(batches) for batches in passes.values())
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
    """Batches of one pass over the rows as they are sampled, in random order."""
    counts = row_counts(rows.labels, rows.sampling, threshold=rows.threshold, rng=rng)
    order = shuffled(counts, rng)
    lengths = np.asarray(rows.lengths)[order]
    batches = length_grouped(lengths, train, copies=int(counts.max()))
    return [order[batches[at]].tolist() for at in rng.permutation(len(batches))]


def length_grouped(
    lengths: npt.ArrayLike, train: TrainConfig, *, copies: int = 1
) -> list[Int64Array]:
    """Cut rows into batches of similar length, every row once.

    lengths: (rows,) tokens of each row, in an order that is random already: rows of the first
        pool, then those of the second, and so on, are sorted and cut.
    copies: how often the most frequent row is among them. Copies are as long as each other, so
        that those in one pool would become neighbours in a batch: each gets a pool if it can.
    Returns the rows of each batch, sorted by length within a pool.
    """
    known = np.asarray(lengths)
    batch_rows = _mean_batch_rows(known, train)
    batch_count = len(known) // batch_rows
    pools = max(LEAST_POOLS, min(copies, batch_count // LEAST_POOL_BATCHES))
    pool_batches = min(POOL_BATCHES, batch_count // pools)
    pool_rows = batch_rows * max(1, pool_batches)
    batches: list[Int64Array] = []
    for first in range(0, len(known), pool_rows):
        pool = known[first : first + pool_rows]
        by_length = np.argsort(pool, kind="stable")
        starts = _batch_starts(pool[by_length], train)
        batches += np.split(first + by_length, starts[1:])
    return batches


def _mean_batch_rows(lengths: Int64Array, train: TrainConfig) -> int:
    """Rows of a batch; about as many, where tokens cut it."""
    if train.batch_tokens is None:
        return train.batch_rows
    return max(1, int(train.batch_tokens / max(1.0, float(lengths.mean()))))


def _batch_starts(lengths: Int64Array, train: TrainConfig) -> list[int]:
    """Where each batch begins.

    lengths: (rows,) ascending tokens of the rows of one pool, so that the last of a batch is as
    long as all of them are when padded.
    """
    if train.batch_tokens is None:
        return list(range(0, len(lengths), train.batch_rows))
    starts = [0]
    for row, tokens in enumerate(lengths.tolist()):
        if row > starts[-1] and (row + 1 - starts[-1]) * tokens > train.batch_tokens:
            starts.append(row)
    return starts
