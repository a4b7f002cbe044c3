"""What the plan of an epoch promises."""

from collections import Counter
from itertools import chain

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.config import TrainConfig
from tests.strategies import STEADY
from trainer.batches import POOL_BATCHES, Batch, length_grouped, plan_epoch, steps_by_task


def settings(
    *, batch_rows: int = 4, mixing: str = "round_robin", power: float = 0.5
) -> TrainConfig:
    """Optimisation settings of one mixing rule."""
    return TrainConfig.model_validate(
        {"batch_rows": batch_rows, "mixing": mixing, "mixing_power": power}
    )


def lengths(**rows: int) -> dict[str, list[int]]:
    """Token counts for so many rows of each task."""
    rng = np.random.default_rng(0)
    return {task: rng.integers(5, 90, size=count).tolist() for task, count in rows.items()}


def rows_of(plan: list[Batch], task: str) -> list[int]:
    """The rows of one task, in the order of the plan."""
    return list(chain.from_iterable(batch.rows for batch in plan if batch.task == task))


@STEADY
@given(
    count=st.integers(1, 60),
    other=st.integers(1, 60),
    batch_rows=st.integers(1, 9),
    epoch=st.integers(0, 3),
)
def test_longest_task_sees_every_row_once(
    count: int, other: int, batch_rows: int, epoch: int
) -> None:
    """In turn, an epoch is one pass over the longest task, and at least one over the others."""
    longest, shortest = max(count, other), min(count, other)
    plan = plan_epoch(
        lengths(long=longest, short=shortest), settings(batch_rows=batch_rows), seed=1, epoch=epoch
    )

    assert sorted(rows_of(plan, "long")) == list(range(longest))
    assert set(rows_of(plan, "short")) == set(range(shortest))
    assert all(1 <= len(batch.rows) <= batch_rows for batch in plan)


def test_turns_are_equal_and_alternate() -> None:
    """Round robin gives each task as many batches as the longest has, one after the other."""
    plan = plan_epoch(lengths(a=40, b=7, c=21), settings(), seed=0, epoch=0)

    assert steps_by_task({"a": 40, "b": 7, "c": 21}, settings()) == {"a": 10, "b": 10, "c": 10}
    assert [batch.task for batch in plan] == ["a", "b", "c"] * 10


def test_shorter_task_starts_again_reshuffled() -> None:
    """A second pass within an epoch has the same rows in another order."""
    plan = plan_epoch(lengths(a=80, b=8), settings(), seed=0, epoch=0)
    rows = rows_of(plan, "b")

    passes = [rows[at : at + 8] for at in range(0, 80, 8)]
    assert all(sorted(one) == list(range(8)) for one in passes)
    assert len({tuple(one) for one in passes}) > 1


@pytest.mark.parametrize(
    ("power", "steps"),
    [(1.0, {"a": 25, "b": 1}), (0.5, {"a": 22, "b": 4}), (0.0, {"a": 13, "b": 13})],
)
def test_proportional_steps_follow_the_power(power: float, steps: dict[str, int]) -> None:
    """The epoch's 26 steps are shared in proportion to rows ** power."""
    rule = settings(mixing="proportional", power=power)

    assert steps_by_task({"a": 100, "b": 4}, rule) == steps
    plan = plan_epoch(lengths(a=100, b=4), rule, seed=0, epoch=0)
    assert Counter(batch.task for batch in plan) == steps


@STEADY
@given(
    sizes=st.lists(st.integers(1, 3000), min_size=1, max_size=5),
    power=st.floats(0, 1),
    batch_rows=st.integers(1, 32),
)
def test_no_task_is_left_out(sizes: list[int], power: float, batch_rows: int) -> None:
    """However small, a task has a step in every epoch, under both rules."""
    rows = {f"t{number}": size for number, size in enumerate(sizes)}
    for mixing in ("round_robin", "proportional"):
        rule = settings(mixing=mixing, power=power, batch_rows=batch_rows)

        assert min(steps_by_task(rows, rule).values()) >= 1


def test_steps_of_a_small_task_are_spread_over_the_epoch() -> None:
    """A task with few steps does not take them all at the beginning or the end."""
    rule = settings(mixing="proportional", power=1.0)
    plan = plan_epoch(lengths(a=160, b=16), rule, seed=0, epoch=0)
    places = [at for at, batch in enumerate(plan) if batch.task == "b"]

    assert len(places) == 4
    assert max(np.diff(places)) <= 12


@pytest.mark.parametrize("mixing", ["round_robin", "proportional"])
def test_plan_is_deterministic(mixing: str) -> None:
    """Seed and epoch settle the plan; another of either gives another plan of the same length."""
    given = lengths(a=50, b=20)
    rule = settings(mixing=mixing)
    plan = plan_epoch(given, rule, seed=3, epoch=1)

    assert plan_epoch(given, rule, seed=3, epoch=1) == plan
    for seed, epoch in ((4, 1), (3, 2)):
        other = plan_epoch(given, rule, seed=seed, epoch=epoch)
        assert other != plan
        assert len(other) == len(plan)


def test_grouping_by_length_leaves_little_padding() -> None:
    """Padded to the longest of its batch, a corpus of mixed lengths is nearly free of padding."""
    rng = np.random.default_rng(0)
    tokens = rng.integers(5, 250, size=2000).tolist()
    grouped = length_grouped(tokens, 16, rng)
    shuffled = np.array_split(rng.permutation(2000), 125)

    def padding(batches: list[list[int]]) -> float:
        padded = sum(len(batch) * max(tokens[row] for row in batch) for batch in batches)
        return float(padded / sum(tokens)) - 1

    assert padding(grouped) < 0.05
    assert padding([batch.tolist() for batch in shuffled]) > 0.5


@pytest.mark.parametrize("rows", [32, 500, 5000])
def test_batches_differ_from_epoch_to_epoch(rows: int) -> None:
    """Rows meet other rows in every epoch, in a small data set too."""
    given = lengths(a=rows)
    first, second = (
        {frozenset(batch.rows) for batch in plan_epoch(given, settings(), seed=0, epoch=epoch)}
        for epoch in (0, 1)
    )

    assert len(first & second) < 0.1 * len(first)


def test_batches_do_not_come_in_order_of_length() -> None:
    """Grouped batches are shuffled, or a model would see short texts first."""
    rng = np.random.default_rng(0)
    tokens = list(range(640))
    firsts = [tokens[batch[0]] for batch in length_grouped(tokens, 16, rng)]

    assert firsts != sorted(firsts)
    assert firsts != sorted(firsts, reverse=True)


@STEADY
@given(count=st.integers(1, 9 * POOL_BATCHES), batch_rows=st.integers(1, 4))
def test_grouping_keeps_every_row(count: int, batch_rows: int) -> None:
    """Every row is in one batch, over the borders of the shuffled pools too."""
    batches = length_grouped([1] * count, batch_rows, np.random.default_rng(0))

    assert sorted(chain.from_iterable(batches)) == list(range(count))
    assert max(map(len, batches)) <= batch_rows
