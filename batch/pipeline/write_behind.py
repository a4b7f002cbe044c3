"""Write-behind thread: it writes a chunk while the next one is scored."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self


class WriteBehind:
    """A thread that runs one write after the other while the caller continues.

    Leaving the block waits for unfinished writes, also after an error or a request to stop.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="write-behind")
        self._last: Future[None] | None = None

    def hand_over(self, write: Callable[[], None]) -> None:
        """Wait for the previous write, then start this one on the thread.

        Raises the error of the previous write.
        """
        self._wait()
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
            self._wait()
        finally:
            self._thread.shutdown()

    def _wait(self) -> None:
        last, self._last = self._last, None
        if last is not None:
            last.result()
