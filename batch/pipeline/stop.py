"""Early stop on SIGTERM, SIGINT or a deadline. The same command resumes.

Stages call `StopSwitch.check` as often as they can. Where one cannot, because a library or a file
system does not return, a second thread ends the process after a grace period. Every file of a run
is written atomically, so that the run can be resumed even after `kill -9`.
"""

from __future__ import annotations

import json
import os
import select
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from enum import Enum, auto
from types import FrameType

from batch.exit_codes import STOPPED
from schemas.errors import StoppedError

GRACE_S = 1.0
"""Time from a signal or the deadline until the process is ended. Together with start-up and exit
this stays below the two seconds that are documented."""

MAX_WAIT_S = 3600.0

NEW_DEADLINE = 0
"""Byte in the wake-up pipe; all other bytes are signal numbers."""

WRITE_TIMEOUT_S = 0.2
"""Time limit for the last message, because a full pipe could block forever."""

HINT = "the same command resumes"

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def plain_message(message: str) -> str:
    """The last message of a stopped process as plain text."""
    return f"Error: {message}\nhint: {HINT}\n"


def json_message(message: str) -> str:
    """The last message of a stopped process as one JSON object, for schedulers."""
    line = {"time": round(time.time(), 3), "event": "error", "kind": "StoppedError"}
    return json.dumps({**line, "message": plain_message(message).strip()}) + "\n"


class _Event(Enum):
    """Event that ended a wait of the watcher thread."""

    SIGNAL = auto()
    NEW_DEADLINE = auto()
    TIMEOUT = auto()
    CLOSED = auto()


class StopSwitch:
    """A request to stop, from a signal or a deadline.

    grace_s: seconds after which a process that has not ended by itself is ended with exit code 4.
    None never ends the process and leaves stopping to `check`, as a library inside another program
    must.
    message_format: format of the last message of a process that is ended after the grace period.
    """

    def __init__(self, deadline_s: float | None = None, *, grace_s: float | None = None) -> None:
        self.message_format: Callable[[str], str] = plain_message
        self._started = time.monotonic()
        self._grace_s = grace_s
        self._deadline = float("inf")
        self._signal: int | None = None
        self._listening = False
        self._wake_reader, self._wake_writer = -1, -1
        self.set_deadline(deadline_s)

    def set_deadline(self, deadline_s: float | None) -> None:
        """Stop that many seconds after this object was created; None sets no deadline."""
        if deadline_s is not None:
            self._deadline = self._started + deadline_s
            self._wake()

    def check(self) -> None:
        """Raise StoppedError after a signal or the deadline."""
        reason = self._reason()
        if reason is not None:
            raise StoppedError(reason, hint=HINT)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Treat SIGTERM and SIGINT as requests to stop while the block runs; blocks may be nested.

        Only the main thread receives signals; in other threads only the deadline has an effect.
        With a grace period the block must be the whole process: signals stay ignored after it, so
        that one during interpreter shutdown does not change the exit code.
        """
        if self._listening or threading.current_thread() is not threading.main_thread():
            yield
            return
        self._listening = True
        previous = {number: signal.signal(number, self._receive) for number in STOP_SIGNALS}
        try:
            with self._watched():
                yield
        finally:
            self._listening = False
            for number, handler in previous.items():
                # The interpreter removes handlers when it shuts down, but keeps signals ignored.
                signal.signal(number, handler if self._grace_s is None else signal.SIG_IGN)

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """Run the watcher thread, which ends a process that does not end by itself."""
        if self._grace_s is None:
            yield
            return
        self._wake_reader, self._wake_writer = os.pipe()
        os.set_blocking(self._wake_writer, False)
        # Python runs signal handlers only when the main thread returns from C code; the wake-up
        # pipe gets its byte at once.
        previous = signal.set_wakeup_fd(self._wake_writer, warn_on_full_buffer=False)
        threading.Thread(target=self._watch, args=(self._grace_s,), daemon=True).start()
        try:
            yield
        finally:
            signal.set_wakeup_fd(previous)
            writer, self._wake_writer = self._wake_writer, -1
            os.close(writer)  # the thread sees the end of the pipe, and ends

    def _watch(self, grace_s: float) -> None:
        """Wait for a reason to stop, then for the process to end by itself; else end it."""
        event = self._wait(until=self._deadline)
        while event is _Event.NEW_DEADLINE:
            event = self._wait(until=self._deadline)
        if event is not _Event.CLOSED:
            event = self._wait(until=time.monotonic() + grace_s)  # a second signal ends it at once
        if event is _Event.CLOSED:
            os.close(self._wake_reader)
            return
        self._end()

    def _wait(self, *, until: float) -> _Event:
        """Wait for a signal, a new deadline or the end of the block. until: a monotonic time."""
        while (left_s := until - time.monotonic()) > 0:
            readable, _, _ = select.select([self._wake_reader], [], [], min(left_s, MAX_WAIT_S))
            if not readable:
                continue
            numbers = os.read(self._wake_reader, 64)
            if not numbers:
                return _Event.CLOSED
            stop_signals = [number for number in numbers if number in STOP_SIGNALS]
            if stop_signals:
                self._signal = stop_signals[0]
                return _Event.SIGNAL
            if NEW_DEADLINE in numbers and self._signal is None:
                return _Event.NEW_DEADLINE
        return _Event.TIMEOUT

    def _wake(self) -> None:
        """Make the watcher thread read the deadline again."""
        if self._wake_writer >= 0:
            os.write(self._wake_writer, bytes([NEW_DEADLINE]))

    def _end(self) -> None:
        """End the process, because a stage has not called `check` in time."""
        message = self.message_format(self._reason() or "stopped").encode(
            "utf-8", "backslashreplace"
        )
        writer = threading.Thread(target=_write_to_stderr, args=(message,), daemon=True)
        writer.start()
        writer.join(WRITE_TIMEOUT_S)
        os._exit(STOPPED)

    def _reason(self) -> str | None:
        if self._signal is not None:
            return f"stopped by {signal.Signals(self._signal).name}"
        if time.monotonic() >= self._deadline:
            return "stopped: the deadline is reached"
        return None

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self._signal = number


def _write_to_stderr(message: bytes) -> None:
    with suppress(OSError):  # it may be closed, or full
        os.write(2, message)
