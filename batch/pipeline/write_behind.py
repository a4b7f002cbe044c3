"""One thread that writes a chunk while the next one is scored."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self


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
