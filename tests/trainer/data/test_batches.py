"""Epoch plan."""

from collections import Counter
from itertools import chain

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.config.models import TrainConfig, TrainingRun
from schemas.tasks.sections import Sampling
from tests.strategies import STEADY
from trainer.data.batches import (
    POOL_BATCHES,
    Batch,
    TaskRows,
    length_grouped,
    padded_length,
    passes,
    pieces_per_pass,
    plan_epoch,
    steps_by_epoch,
)


def settings(
    *,
    batch_rows: int = 4,
    batch_tokens: int | None = None,
    mixing: str = "round_robin",
    power: float = 0.5,
    epochs: int = 8,
    epoch_steps: int = 1,
) -> TrainConfig:
    """Training settings with one mixing rule."""
    return TrainConfig.model_validate(
        {
            "batch_rows": batch_rows,
            "batch_tokens": batch_tokens,
            "mixing": mixing,
            "mixing_power": power,
            "epochs": epochs,
            "epoch_steps": epoch_steps,
        }
    )


def tasks(*, sampling: Sampling = "none", **rows: int) -> dict[str, TaskRows]:
    """Token counts for so many rows of each task; one in 16 has the second, rare label."""
    rng = np.random.default_rng(0)
    found = {}
    for task, count in rows.items():
        labels = np.zeros((count, 2), dtype=np.bool_)
        labels[np.arange(count), (np.arange(count) % 16 == 0).astype(int)] = True
        lengths = rng.integers(5, 90, size=count).tolist()
        found[task] = TaskRows(lengths, labels, sampling, threshold=0.25)
    return found


def steps(plan: list[Batch]) -> dict[str, int]:
    """Batches of each task."""
    return dict(Counter(batch.task for batch in plan))


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
    """With round robin, an epoch has one pass over the longest task, and more over others."""
    longest, shortest = max(count, other), min(count, other)
    plan = plan_epoch(
        tasks(long=longest, short=shortest), settings(batch_rows=batch_rows), seed=1, epoch=epoch
    )

    assert sorted(rows_of(plan, "long")) == list(range(longest))
    assert set(rows_of(plan, "short")) == set(range(shortest))
    assert all(1 <= len(batch.rows) <= batch_rows for batch in plan)


def test_round_robin_steps_are_equal_and_alternate() -> None:
    """Each task has as many batches as the longest, in alternation."""
    plan = plan_epoch(tasks(a=40, b=7, c=21), settings(), seed=0, epoch=0)

    assert [batch.task for batch in plan] == ["a", "b", "c"] * 10


def test_shorter_task_is_repeated_reshuffled() -> None:
    """A second pass within an epoch has the same rows in another order."""
    plan = plan_epoch(tasks(a=80, b=8), settings(), seed=0, epoch=0)
    rows = rows_of(plan, "b")

    passes = [rows[at : at + 8] for at in range(0, 80, 8)]
    assert all(sorted(one) == list(range(8)) for one in passes)
    assert len({tuple(one) for one in passes}) > 1


@pytest.mark.parametrize("mixing", ["round_robin", "proportional"])
def test_few_rows_are_passed_over_several_times(mixing: str) -> None:
    """An epoch has at least `epoch_steps`; every pass has all rows, in other batches."""
    rule = settings(mixing=mixing, epoch_steps=30)
    rows = rows_of(plan_epoch(tasks(few=12), rule, seed=0, epoch=0), "few")

    passes = [rows[at : at + 12] for at in range(0, 120, 12)]
    assert all(sorted(one) == list(range(12)) for one in passes)
    assert len({tuple(one) for one in passes}) > 5


def test_many_rows_are_passed_over_once() -> None:
    """`epoch_steps` changes nothing where a pass has more steps."""
    plans = [
        plan_epoch(tasks(a=200, b=40), settings(epoch_steps=least), seed=0, epoch=0)
        for least in (1, 50)
    ]

    assert plans[0] == plans[1]


@pytest.mark.parametrize(
    ("power", "expected"),
    [(1.0, {"a": 25, "b": 1}), (0.5, {"a": 22, "b": 4}), (0.0, {"a": 13, "b": 13})],
)
def test_proportional_steps_follow_the_power(power: float, expected: dict[str, int]) -> None:
    """The epoch's 26 steps are divided in proportion to rows ** power."""
    rule = settings(mixing="proportional", power=power)

    assert steps(plan_epoch(tasks(a=100, b=4), rule, seed=0, epoch=0)) == expected


@STEADY
@given(
    sizes=st.lists(st.integers(1, 300), min_size=1, max_size=5),
    power=st.floats(0, 1),
    batch_rows=st.integers(1, 32),
)
def test_no_task_is_left_out(sizes: list[int], power: float, batch_rows: int) -> None:
    """However small, a task has a step in every epoch, with both rules."""
    given = tasks(sampling="none", **{f"t{number}": size for number, size in enumerate(sizes)})
    for mixing in ("round_robin", "proportional"):
        rule = settings(mixing=mixing, power=power, batch_rows=batch_rows)
        plan = plan_epoch(given, rule, seed=0, epoch=0)

        assert {batch.task for batch in plan} == set(given)


def test_steps_of_a_small_task_are_spread_over_the_epoch() -> None:
    """The few steps of a task are not all at the beginning or the end."""
    rule = settings(mixing="proportional", power=1.0)
    plan = plan_epoch(tasks(a=160, b=16), rule, seed=0, epoch=0)
    places = [at for at, batch in enumerate(plan) if batch.task == "b"]

    assert len(places) == 4
    assert max(np.diff(places)) <= 12


@pytest.mark.parametrize("mixing", ["round_robin", "proportional"])
def test_plan_is_deterministic(mixing: str) -> None:
    """It depends on seed and epoch; other values give another plan of the same length."""
    given = tasks(a=50, b=20)
    rule = settings(mixing=mixing)
    plan = plan_epoch(given, rule, seed=3, epoch=1)

    assert plan_epoch(given, rule, seed=3, epoch=1) == plan
    for seed, epoch in ((4, 1), (3, 2)):
        other = plan_epoch(given, rule, seed=seed, epoch=epoch)
        assert other != plan
        assert len(other) == len(plan)


def test_grouping_by_length_leaves_little_padding() -> None:
    """Padded to the longest of its batch, a corpus of mixed lengths has almost no padding."""
    rng = np.random.default_rng(0)
    tokens = rng.integers(5, 250, size=2000).tolist()
    by_rows = length_grouped(tokens, settings(batch_rows=16))
    by_tokens = length_grouped(tokens, settings(batch_tokens=2048))
    shuffled = np.array_split(rng.permutation(2000), 125)

    def padding(batches: list[npt.NDArray[np.int64]]) -> float:
        padded = sum(len(batch) * max(tokens[row] for row in batch) for batch in batches)
        return float(padded / sum(tokens)) - 1

    assert padding(by_rows) < 0.05
    assert padding(by_tokens) < 0.05
    assert padding(shuffled) > 0.5


@pytest.mark.parametrize("rows", [32, 500, 5000])
def test_batches_differ_from_epoch_to_epoch(rows: int) -> None:
    """Rows are combined differently in every epoch, in a small data set, too."""
    given = tasks(a=rows)
    first, second = (
        {frozenset(batch.rows) for batch in plan_epoch(given, settings(), seed=0, epoch=epoch)}
        for epoch in (0, 1)
    )

    assert len(first & second) < 0.1 * len(first)


def test_batches_are_not_in_order_of_length() -> None:
    """Grouped batches are shuffled, or a model would be trained on short texts first."""
    given = {"a": TaskRows(list(range(640)), np.ones((640, 1), dtype=np.bool_))}
    firsts = [batch.rows[0] for batch in plan_epoch(given, settings(), seed=0, epoch=0)]

    assert firsts != sorted(firsts)
    assert firsts != sorted(firsts, reverse=True)


@STEADY
@given(
    lengths=st.lists(st.integers(1, 90), min_size=1, max_size=9 * POOL_BATCHES),
    batch_rows=st.integers(1, 4),
    batch_tokens=st.none() | st.integers(90, 300),
)
def test_grouping_keeps_every_row(
    lengths: list[int], batch_rows: int, batch_tokens: int | None
) -> None:
    """Every row is in one batch, at the boundaries of pools, too."""
    rule = settings(batch_rows=batch_rows, batch_tokens=batch_tokens)
    batches = length_grouped(lengths, rule)

    assert sorted(chain.from_iterable(batches)) == list(range(len(lengths)))
    assert all(len(batch) for batch in batches)


@STEADY
@given(
    lengths=st.lists(st.integers(1, 90), min_size=1, max_size=300),
    batch_tokens=st.integers(90, 1000),
)
def test_batches_do_not_exceed_their_tokens(lengths: list[int], batch_tokens: int) -> None:
    """With `batch_tokens` no padded batch is larger, whatever its rows."""
    batches = length_grouped(lengths, settings(batch_rows=1, batch_tokens=batch_tokens))

    assert max(len(batch) * max(lengths[row] for row in batch) for batch in batches) <= batch_tokens


def test_batches_of_short_rows_have_more_rows() -> None:
    """The token budget is used: batches of rows a tenth as long have ten times as many rows."""
    short, long = (
        length_grouped([tokens] * 4000, settings(batch_tokens=1000)) for tokens in (10, 100)
    )

    assert {len(batch) for batch in short} == {100}
    assert {len(batch) for batch in long} == {10}


@pytest.mark.parametrize("batch_tokens", [None, 300])
@pytest.mark.parametrize("mixing", ["round_robin", "proportional"])
@pytest.mark.parametrize("sampling", ["none", "repeat_factor", "class_aware"])
def test_steps_of_every_epoch_match_the_plans(
    sampling: Sampling, mixing: str, batch_tokens: int | None
) -> None:
    """The schedule is made for the number of steps of all plans, with every rule."""
    given = tasks(a=150, b=40, sampling=sampling)
    rule = settings(mixing=mixing, batch_tokens=batch_tokens, epochs=5)
    planned = [len(plan_epoch(given, rule, seed=9, epoch=epoch)) for epoch in range(5)]

    assert steps_by_epoch(given, rule, seed=9) == planned
    if batch_tokens is None:
        assert len(set(planned)) == 1


@pytest.mark.parametrize("epoch", range(4))
def test_repeat_factor_sees_every_row(epoch: int) -> None:
    """Rows with the rare label come up twice, a quarter of whose share is reached; all others once.

    The share of the rare label is 1/16, the threshold 1/4.
    """
    plan = plan_epoch(tasks(a=160, sampling="repeat_factor"), settings(), seed=0, epoch=epoch)
    counts = Counter(rows_of(plan, "a"))

    assert counts == {row: 2 if row % 16 == 0 else 1 for row in range(160)}


def test_sampled_copies_of_a_row_are_in_different_batches() -> None:
    """A repeated row is not twice in a batch, though batches have rows of one length."""
    given = tasks(a=1600, sampling="class_aware")
    plan = plan_epoch(given, settings(batch_rows=8), seed=0, epoch=0)
    doubled = [batch for batch in plan if len(set(batch.rows)) < len(batch.rows)]

    assert Counter(rows_of(plan, "a"))[0] == 8
    assert len(doubled) < 0.1 * len(plan)


def test_sampling_without_rare_labels_does_not_change_the_plan() -> None:
    """Repeat-factor sampling of labels above its threshold has no effect."""
    rows = tasks(a=200)["a"]
    sampled = TaskRows(rows.lengths, rows.labels, "repeat_factor", threshold=0.01)

    assert plan_epoch({"a": sampled}, settings(), seed=2, epoch=3) == plan_epoch(
        {"a": rows}, settings(), seed=2, epoch=3
    )


def test_tasks_may_be_sampled_differently() -> None:
    """Sampling one task does not change how often rows of another are drawn."""
    given = {**tasks(a=96, sampling="class_aware"), **tasks(b=96)}
    plan = plan_epoch(given, settings(), seed=0, epoch=0)

    assert set(Counter(rows_of(plan, "a"))) < set(range(96))
    assert sorted(rows_of(plan, "b")) == list(range(96))


def test_budget_below_the_longest_text_is_refused() -> None:
    """A batch must have room for the longest text, or the budget would be exceeded."""
    stored = {
        "encoder": {"max_tokens": 128},
        "train": {"batch_tokens": 127},
        "tasks": {"topics": {"data": [{"path": "rows.parquet"}]}},
    }

    with pytest.raises(ValueError, match="the longest text would fit no batch"):
        TrainingRun.model_validate(stored)


def test_few_padded_lengths_occur() -> None:
    """No batch is padded by more than a quarter and 8 tokens, nor beyond the longest text."""
    padded = [padded_length(longest, 250) for longest in range(1, 251)]

    assert sorted(set(padded)) == [*range(8, 64, 8), *range(64, 128, 16), *range(128, 250, 32), 250]
    for longest, length in enumerate(padded, start=1):
        assert longest <= length <= max(longest + 7, longest * 5 / 4)


def test_passes_contain_every_row_once() -> None:
    """On a CPU a pass has limited tokens, or one row; on a GPU it has more."""
    for lengths in ([256] * 16, [40, 256, 3], [8192] * 3, [1], [100] * 17):
        parts = passes([[length] for length in lengths], "cpu", max_tokens=8192)

        assert [row for part in parts for row in range(len(lengths))[part]] == list(
            range(len(lengths))
        )
        assert all(
            max(lengths) * len(lengths[part]) <= 2048 or len(lengths[part]) == 1 for part in parts
        )
    assert passes([[256]] * 16, "cpu", max_tokens=256) == [slice(0, 8), slice(8, 16)]
    assert passes([[8192]] * 3, "cuda", max_tokens=8192) == [slice(0, 3)]


@given(st.lists(st.lists(st.integers(1, 256), min_size=1, max_size=12), min_size=1, max_size=12))
def test_windows_of_a_row_stay_in_one_pass(lengths: list[list[int]]) -> None:
    """A pass has as many windows as fit, or those of one row."""
    limit = pieces_per_pass(lengths, "cpu", max_tokens=256)
    parts = passes(lengths, "cpu", max_tokens=256)

    assert [row for part in parts for row in range(len(lengths))[part]] == [*range(len(lengths))]
    for part in parts:
        assert sum(map(len, lengths[part])) <= limit or part.stop - part.start == 1
