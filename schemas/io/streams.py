"""Standard streams that never raise and send no foreign escape sequences to a terminal.

An output stream may be full, closed, a pipe without a reader, non-blocking, or of an encoding that
lacks some letters. Printed text only reports on the work, so it is discarded then and the work
continues.
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
"""Maximum wait for the reader of a full non-blocking pipe to read something."""

MAX_UNSENT_BYTES = 65_536
"""Maximum rest of a partly written line that is retained while a pipe is full."""


class TolerantStream(io.TextIOBase):
    """A text stream that writes to another one and never raises.

    After the first error everything is discarded. If the target has a file descriptor, that is
    written to directly, so that no buffer is left for which Python's flush at exit could fail.
    """

    def __init__(self, target: TextIO | None) -> None:
        super().__init__()
        self._target = target
        self._lock = threading.RLock()
        self._is_discarding = target is None
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
        """Error handler for letters that the encoding lacks."""
        return "backslashreplace"

    def write(self, text: str) -> int:
        """Write text or discard it. Raises TypeError for anything but str."""
        if not isinstance(text, str):
            raise TypeError(f"a text stream takes str, not {type(text).__name__}")
        with self._lock:
            if not self._is_discarding and text:
                raw = self._encoder.encode(text)
                if self._descriptor is None:
                    self._write_to_target(raw)
                else:
                    self._send(self._descriptor, raw)
        return len(text)

    def flush(self) -> None:
        """Flush the target; errors are ignored."""
        if self._target is None or self._is_discarding:
            return
        try:
            self._target.flush()
        except (OSError, ValueError):
            self._discard_all()

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

    def _write_to_target(self, raw: bytes) -> None:
        """Write to a target that has no file descriptor."""
        try:
            cast("TextIO", self._target).write(raw.decode(self._encoding, "replace"))
        except (OSError, ValueError):
            self._discard_all()

    def _send(self, descriptor: int, raw: bytes) -> None:
        """Write bytes; if a pipe stays full, retain the rest of a partly written line."""
        is_mid_line = bool(self._unsent)
        unsent = memoryview(self._unsent + raw)
        self._unsent = b""
        while unsent:
            try:
                sent = os.write(descriptor, unsent)
            except BlockingIOError:
                if _is_writable(descriptor, self._patience_s):
                    continue
                self._patience_s = 0.0
                if is_mid_line:
                    line, end, _ = bytes(unsent).partition(b"\n")
                    self._unsent = (line + end)[:MAX_UNSENT_BYTES]
                return
            except OSError:
                self._discard_all()
                return
            if sent:
                is_mid_line = unsent[sent - 1] != ord("\n")
                self._patience_s = PATIENCE_S
            unsent = unsent[sent:]

    def _discard_all(self) -> None:
        """Discard all further output, also what other code writes to the same descriptor."""
        self._is_discarding = True
        if self._descriptor in STANDARD_DESCRIPTORS:
            null = os.open(os.devnull, os.O_RDWR)
            os.dup2(null, self._descriptor)
            os.close(null)


class EscapingStream(io.TextIOBase):
    """A text stream that escapes characters which a terminal interprets, except \\n and \\t.

    `isatty` is false, so that libraries do not send escape sequences.
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
        """Error handler for letters that the encoding lacks."""
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
    """Replace stdout and stderr by tolerant, escaping streams; safe to call again."""
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
    """Open the null device for every standard descriptor that was closed when the process began.

    Otherwise the next file that is opened, such as a part, would become descriptor 1 or 2, and
    native libraries would print into it.
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
