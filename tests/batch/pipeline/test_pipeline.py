"""Stages side by side: in order, a chunk ahead and a chunk behind, and no error is lost."""

from __future__ import annotations

import errno
from contextlib import closing

import pyarrow as pa
import pytest

from batch.machine.memory import is_out_of_memory
from batch.pipeline.write_behind import WriteBehind
from batch.scoring.prefetch import make_ahead
from schemas.errors import CorpusError, StoppedError


def test_what_is_made_ahead_comes_in_order() -> None:
    """Nothing is left out or doubled."""
    assert list(make_ahead(range(50), lambda number: number * number)) == [n * n for n in range(50)]


def test_no_more_than_one_item_is_made_ahead() -> None:
    """While an item is in use, the next one is made, and no further one."""
    made: list[int] = []
    ahead = [max(made) - used for used, _ in enumerate(make_ahead(range(50), made.append))]

    assert len(made) == 50
    assert max(ahead) <= 1


def test_an_error_while_reading_ahead_comes_after_what_was_read_before() -> None:
    """It is the very error, and reading ends there."""
    damage = CorpusError("page 3")
    seen: list[int] = []

    def make(number: int) -> int:
        if number == 3:
            raise damage
        return number

    with pytest.raises(CorpusError) as raised:
        seen.extend(make_ahead(range(50), make))
    assert raised.value is damage
    assert seen in ([0, 1, 2], [])


def test_leaving_early_ends_reading() -> None:
    """The item that is being made is finished, and no other is begun."""
    made: list[int] = []
    with closing(make_ahead(range(50), made.append)) as ahead:
        next(ahead)
    left = list(made)

    assert left in ([0], [0, 1])
    assert made == left


def test_at_most_one_write_is_behind() -> None:
    """Handing over waits for what was handed over before, so writes cannot pile up."""
    written: list[int] = []
    behind = []
    with WriteBehind() as thread:
        for number in range(50):
            thread.hand_over(lambda number=number: written.append(number))  # type: ignore[misc]
            behind.append(number + 1 - len(written))

    assert written == list(range(50))
    assert max(behind) <= 1


def test_what_was_handed_over_is_finished_after_a_stop() -> None:
    """A wish to stop does not take back a chunk that is scored already."""
    written: list[int] = []

    def stop() -> None:
        with WriteBehind() as thread:
            thread.hand_over(lambda: written.append(0))
            raise StoppedError("stopped by SIGTERM")

    with pytest.raises(StoppedError):
        stop()
    assert written == [0]


@pytest.mark.parametrize("writes", [1, 2])
def test_a_failed_write_reaches_the_caller(writes: int) -> None:
    """With the next write, or at the end."""

    def fail() -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    def hand_over() -> None:
        with WriteBehind() as thread:
            for _ in range(writes):
                thread.hand_over(fail)

    with pytest.raises(OSError, match="No space left"):
        hand_over()


def test_errors_that_are_about_memory_are_recognized() -> None:
    """Python's, Arrow's, the kernel's and the engines', also under an error of ours."""
    wrapped = CorpusError("rows from 5 on cannot be decoded")
    wrapped.__cause__ = pa.ArrowMemoryError("malloc of size 1048576 failed")
    about_memory = [
        MemoryError(),
        pa.ArrowMemoryError("malloc of size 1048576 failed"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        RuntimeError("Failed to allocate memory for requested buffer of size 1048576"),
        RuntimeError("CUDA failure 2: out of memory"),
        RuntimeError("Available memory of 150703360 is smaller than requested bytes of 301989888"),
        RuntimeError("std::bad_alloc"),
        wrapped,
    ]
    others = [
        RuntimeError("Unexpected input data type"),
        OSError(errno.ENOSPC, "No space left on device"),
        ValueError("failed to allocate"),
        CorpusError("out of memory"),
    ]

    assert all(map(is_out_of_memory, about_memory))
    assert not any(map(is_out_of_memory, others))
