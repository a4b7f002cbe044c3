"""Prefetching on threads, in order and within a bounded window."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def make_ahead(
    items: Iterable[Item], make: Callable[[Item], Result], *, threads: int = 1
) -> Generator[Result]:
    """Yield `make(item)` of every item, in order, while threads compute the next results.

    At most `threads + 1` results are computed ahead. Close the generator (`contextlib.closing`) if
    it may be left early: that waits for running calls, and starts no other.
    """
    executor = ThreadPoolExecutor(threads, thread_name_prefix="make-ahead")
    try:
        pending: deque[Future[Result]] = deque()
        for item in items:
            pending.append(executor.submit(make, item))
            if len(pending) > threads:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        executor.shutdown(cancel_futures=True)
