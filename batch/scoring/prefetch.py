"""Work done ahead on threads, in order and a bounded window of it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Made = TypeVar("Made")


def make_ahead(
    items: Iterable[Item], make: Callable[[Item], Made], *, threads: int = 1
) -> Generator[Made]:
    """Yield `make(item)` of every item, in order; while one is used the next are made on threads.

    At most one more than the threads is made and not yet used. Close it (`contextlib.closing`) if
    it may be left early: that waits for those being made, and begins no other.
    """
    executor = ThreadPoolExecutor(threads, thread_name_prefix="make-ahead")
    try:
        waiting: deque[Future[Made]] = deque()
        for item in items:
            waiting.append(executor.submit(make, item))
            if len(waiting) > threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        executor.shutdown(cancel_futures=True)
