"""Which rows make up each optimiser step of an epoch, and in what order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import numpy.typing as npt

from schemas.config import TrainConfig

POOL_BATCHES = 50
"""Batches' worth of shuffled rows that are sorted by length together: batches are then nearly
free of padding, and still differ from epoch to epoch."""
LEAST_POOLS = 4
"""Pools that a small data set is cut into, so that its batches differ from epoch to epoch too."""


@dataclass(frozen=True)
class Batch:
    """Rows of one task that are trained on together."""

    task: str
    rows: Sequence[int]


def plan_epoch(
    lengths: Mapping[str, Sequence[int]], train: TrainConfig, *, seed: int, epoch: int
) -> list[Batch]:
    """Plan an epoch over all tasks; the same arguments give the same plan.

    lengths: tokens of each training row, by task.
    `round_robin`: tasks take turns, as many turns as the longest has batches; a shorter one starts
    again, reshuffled. `proportional`: each task gets a share of the epoch's steps in proportion to
    rows ** mixing_power. The number of batches is the same in every epoch.
    """
    rng = np.random.default_rng((seed, epoch))
    turns = steps_by_task({task: len(rows) for task, rows in lengths.items()}, train)
    drawn = {
        task: _draw(lengths[task], train.batch_rows, count, rng) for task, count in turns.items()
    }
    places = [(place / count, task) for task, count in turns.items() for place in range(count)]
    position = dict.fromkeys(turns, 0)
    plan = []
    for _, task in sorted(places):
        plan.append(Batch(task, drawn[task][position[task]]))
        position[task] += 1
    return plan


def steps_by_task(rows: Mapping[str, int], train: TrainConfig) -> dict[str, int]:
    """Optimiser steps of each task in one epoch."""
    batches = {task: -(-count // train.batch_rows) for task, count in rows.items()}
    if train.mixing == "round_robin":
        return dict.fromkeys(batches, max(batches.values()))
    weights = {task: count**train.mixing_power for task, count in rows.items()}
    total = sum(batches.values())
    return {
        task: max(1, round(total * weight / sum(weights.values())))
        for task, weight in weights.items()
    }


def _draw(
    lengths: Sequence[int], batch_rows: int, count: int, rng: np.random.Generator
) -> list[list[int]]:
    """Draw `count` batches: whole passes over the rows, each shuffled anew."""
    one_pass = -(-len(lengths) // batch_rows)
    passes = -(-count // one_pass)
    batches = chain.from_iterable(length_grouped(lengths, batch_rows, rng) for _ in range(passes))
    return list(batches)[:count]


def length_grouped(
    lengths: Sequence[int], batch_rows: int, rng: np.random.Generator
) -> list[list[int]]:
    """Shuffle rows into batches of similar length, every row once, in random order of batches."""
    order = rng.permutation(len(lengths))
    known = np.asarray(lengths)
    pool_batches = min(POOL_BATCHES, len(order) // (batch_rows * LEAST_POOLS))
    pool_rows = batch_rows * max(1, pool_batches)
    batches: list[npt.NDArray[np.int64]] = []
    for first in range(0, len(order), pool_rows):
        pool = order[first : first + pool_rows]
        by_length = pool[np.argsort(known[pool], kind="stable")]
        batches += [by_length[at : at + batch_rows] for at in range(0, len(pool), batch_rows)]
    return [batches[at].tolist() for at in rng.permutation(len(batches))]
