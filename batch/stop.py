"""Stopping early on purpose: SIGTERM, SIGINT, or a deadline. The same command resumes."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from schemas.errors import StoppedError


class StopSwitch:
    """Looked at between batches; a chunk under way is dropped and done again by the next run."""

    def __init__(self, deadline_s: float | None = None) -> None:
        self._deadline = None if deadline_s is None else time.monotonic() + deadline_s
        self._signal: int | None = None

    def check(self) -> None:
        """Raise StoppedError if the run should end now."""
        if self._signal is not None:
            name = signal.Signals(self._signal).name
            raise StoppedError(f"stopped by {name}", hint="the same command resumes")
        if self._deadline is not None and time.monotonic() >= self._deadline:
            raise StoppedError("stopped: the deadline is reached", hint="the same command resumes")

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take SIGTERM and SIGINT as a wish to stop while the block runs."""
        previous = {
            number: signal.signal(number, self._receive)
            for number in (signal.SIGTERM, signal.SIGINT)
        }
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self._signal = number
