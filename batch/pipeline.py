"""Stages side by side: one thread reads ahead of the caller and one writes behind, a chunk each;
between them batches are run, several at a time.

So at most three chunks are in memory, and an error in any thread reaches the caller as it is.
"""

from __future__ import annotations

import errno
import re
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self, TypeVar

Item = TypeVar("Item")
Made = TypeVar("Made")

_ENGINE_MEMORY = re.compile(
    r"bad[_ ]alloc|alloc_failed|out of memory|(failed to|unable to|cannot) allocate"
    r"|can't start new thread",
    re.IGNORECASE,
)
"""What onnxruntime, its CUDA libraries, OpenVINO and Python's threads say: they have no error class
for it."""


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


class WriteBehind:
    """A thread that finishes what it was handed, one after the other, while the caller goes on.

    Leaving the block waits for what is unfinished, also after an error or a wish to stop.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="write-behind")
        self._last: Future[None] | None = None

    def hand_over(self, write: Callable[[], None]) -> None:
        """Wait for what was handed over before, then leave this to the thread.

        Raises what the earlier one raised.
        """
        self._settle()
        self._last = self._thread.submit(write)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self._settle()
        finally:
            self._thread.shutdown()

    def _settle(self) -> None:
        last, self._last = self._last, None
        if last is not None:
            last.result()


def is_out_of_memory(error: BaseException | None) -> bool:
    """True if an error, or one that it was made of, says that memory could not be had."""
    if error is None:
        return False
    return (
        isinstance(error, MemoryError)
        or (isinstance(error, OSError) and error.errno == errno.ENOMEM)
        or (_is_of_engine(error) and _ENGINE_MEMORY.search(str(error)) is not None)
        or is_out_of_memory(error.__cause__)
    )


def _is_of_engine(error: BaseException) -> bool:
    """OpenVINO and threads raise RuntimeError; onnxruntime has classes of its own."""
    return isinstance(error, RuntimeError) or type(error).__module__.startswith("onnxruntime.")
