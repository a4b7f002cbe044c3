"""Standard streams that cannot fail the work and hand no escape sequences to a terminal.

Output may be full, closed, a pipe whose reader is gone, non-blocking, or of an encoding that lacks
the letters. Whatever is printed is a report of the work and not the work: it is then lost, and the
work continues.
"""

from __future__ import annotations

import codecs
import io
import logging
import os
import select
import sys
import threading
from typing import TextIO, cast

from schemas.printable import escaped_lines

STANDARD_DESCRIPTORS = (0, 1, 2)

PATIENCE_S = 5.0
"""How long a full non-blocking pipe is waited for, until its reader has taken something."""

MOST_UNSENT_BYTES = 65_536
"""Of a line that was begun and that a full pipe does not take."""


class TolerantStream(io.TextIOBase):
    """A text stream over another one that never raises when it is written to.

    After the first error everything is discarded. Where the target has a file descriptor it is
    written to directly, so that no buffer is left over for Python's flush at exit to fail on.
    """

    def __init__(self, target: TextIO | None) -> None:
        super().__init__()
        self._target = target
        self._lock = threading.RLock()
        self._lost = target is None
        self._descriptor = _descriptor(target)
        self._unsent = b""
        self._patience_s = PATIENCE_S
        self._encoding = _known_encoding(getattr(target, "encoding", None))
        self._encoder = codecs.getincrementalencoder(self._encoding)(self.errors)
        self.flush()

    @property
    def encoding(self) -> str:  # type: ignore[override]  # a plain attribute in typeshed
        """Encoding of the target."""
        return self._encoding

    @property
    def errors(self) -> str:  # type: ignore[override]  # a plain attribute in typeshed
        """How letters are written that the encoding lacks."""
        return "backslashreplace"

    def write(self, text: str) -> int:
        """Write text; what cannot be written is lost. Raises TypeError for anything but str."""
        if not isinstance(text, str):
            raise TypeError(f"a text stream takes str, not {type(text).__name__}")
        with self._lock:
            if not self._lost and text:
                raw = self._encoder.encode(text)
                if self._descriptor is None:
                    self._hand_over(raw)
                else:
                    self._send(self._descriptor, raw)
        return len(text)

    def flush(self) -> None:
        """Flush the target, as far as it can be."""
        if self._target is None or self._lost:
            return
        try:
            self._target.flush()
        except (OSError, ValueError):
            self._lose()

    def writable(self) -> bool:
        """Always true."""
        return True

    def isatty(self) -> bool:
        """True if the target is a terminal."""
        try:
            return self._target is not None and self._target.isatty()
        except (OSError, ValueError):
            return False

    def fileno(self) -> int:
        """Descriptor of the target. Raises OSError if it has none."""
        if self._descriptor is None:
            raise io.UnsupportedOperation("this stream has no file descriptor")
        return self._descriptor

    def _hand_over(self, raw: bytes) -> None:
        """Write to a target in memory."""
        try:
            cast("TextIO", self._target).write(raw.decode(self._encoding, "replace"))
        except (OSError, ValueError):
            self._lose()

    def _send(self, descriptor: int, raw: bytes) -> None:
        """Write bytes; of a pipe that stays full, finish a line that was begun before another."""
        begun = bool(self._unsent)
        unsent = memoryview(self._unsent + raw)
        self._unsent = b""
        while unsent:
            try:
                sent = os.write(descriptor, unsent)
            except BlockingIOError:
                if _is_writable(descriptor, self._patience_s):
                    continue
                self._patience_s = 0.0
                if begun:
                    line, end, _ = bytes(unsent).partition(b"\n")
                    self._unsent = (line + end)[:MOST_UNSENT_BYTES]
                return
            except OSError:
                self._lose()
                return
            if sent:
                begun = unsent[sent - 1] != ord("\n")
                self._patience_s = PATIENCE_S
            unsent = unsent[sent:]

    def _lose(self) -> None:
        """Discard all that follows, also what other code writes to the same descriptor."""
        self._lost = True
        if self._descriptor in STANDARD_DESCRIPTORS:
            null = os.open(os.devnull, os.O_RDWR)
            os.dup2(null, self._descriptor)
            os.close(null)


class EscapingStream(io.TextIOBase):
    """A text stream that escapes what a terminal would act on, but for line breaks and tabs.

    It says that it is not a terminal, so that libraries send it no escape sequences of their own.
    """

    def __init__(self, target: TolerantStream) -> None:
        super().__init__()
        self.target = target

    @property
    def encoding(self) -> str:  # type: ignore[override]  # a plain attribute in typeshed
        """Encoding of the target."""
        return self.target.encoding

    @property
    def errors(self) -> str:  # type: ignore[override]  # a plain attribute in typeshed
        """How letters are written that the encoding lacks."""
        return self.target.errors

    def write(self, text: str) -> int:
        """Write text. Raises TypeError for anything but str."""
        if not isinstance(text, str):
            raise TypeError(f"a text stream takes str, not {type(text).__name__}")
        self.target.write(escaped_lines(text))
        return len(text)

    def flush(self) -> None:
        """Flush the target."""
        self.target.flush()

    def writable(self) -> bool:
        """Always true."""
        return True

    def isatty(self) -> bool:
        """Always false."""
        return False

    def fileno(self) -> int:
        """Descriptor of the target. Raises OSError if it has none."""
        return self.target.fileno()


def guard_streams() -> None:
    """Make stdout and stderr of this process tolerant and escaping; safe to call again."""
    _open_standard_descriptors()
    if not isinstance(sys.stdout, EscapingStream):
        sys.stdout = EscapingStream(TolerantStream(sys.stdout))
    if not isinstance(sys.stderr, EscapingStream):
        sys.stderr = EscapingStream(TolerantStream(sys.stderr))
    logging.raiseExceptions = False


def unescaped(stream: TextIO) -> TextIO:
    """The stream to which a progress bar may send its own escape sequences."""
    return cast("TextIO", stream.target) if isinstance(stream, EscapingStream) else stream


def shows_all_letters(stream: TextIO) -> bool:
    """True if the encoding of a stream has every letter."""
    return (getattr(stream, "encoding", None) or "").lower().startswith("utf")


def _open_standard_descriptors() -> None:
    """Open the null device as every standard descriptor that was closed when the process began.

    Otherwise the next file that is opened, a part for example, becomes descriptor 1 or 2, and what
    a native library prints is written into it.
    """
    for descriptor in STANDARD_DESCRIPTORS:
        try:
            os.fstat(descriptor)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)
            if null != descriptor:
                os.dup2(null, descriptor)
                os.close(null)
            os.set_inheritable(descriptor, True)


def _descriptor(target: TextIO | None) -> int | None:
    try:
        return None if target is None else target.fileno()
    except (AttributeError, OSError, ValueError):
        return None


def _known_encoding(name: str | None) -> str:
    try:
        "".encode(name or "utf-8")
    except LookupError:
        return "utf-8"
    return name or "utf-8"


def _is_writable(descriptor: int, seconds: float) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    return bool(poll.poll(round(seconds * 1000)))
