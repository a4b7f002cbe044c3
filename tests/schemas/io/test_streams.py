"""Standard streams of a command: tolerant and escaping."""

import fcntl
import io
import os
import sys
import threading
from collections.abc import Iterator
from typing import BinaryIO, TextIO, cast

import pytest

from schemas.io import streams
from schemas.io.streams import EscapingStream, TolerantStream, guard_streams, unescaped


@pytest.fixture
def pipe() -> Iterator[tuple[BinaryIO, TextIO]]:
    """The unbuffered read end of a pipe, and a text stream that writes to it."""
    ends = os.pipe()
    with (
        os.fdopen(ends[0], "rb", buffering=0) as reader,
        os.fdopen(ends[1], "w", encoding="utf-8") as writer,
    ):
        yield cast("BinaryIO", reader), writer


def test_text_arrives_in_order(pipe: tuple[BinaryIO, TextIO]) -> None:
    """Text in the buffer of the target precedes text that is written later."""
    reader, target = pipe
    target.write("first\n")
    stream = TolerantStream(target)
    stream.write("second ü\n")

    assert reader.read(100).decode() == "first\nsecond ü\n"


def test_pipe_without_reader_loses_text_and_raises_nothing(pipe: tuple[BinaryIO, TextIO]) -> None:
    """After the reader has closed the pipe, writing and flushing have no effect."""
    reader, target = pipe
    stream = TolerantStream(target)
    reader.close()

    assert stream.write("lost\n") == 5
    stream.write("lost too\n")
    stream.flush()


def test_full_device_loses_text_and_raises_nothing() -> None:
    """A full disk is not an error of the run; nothing is left for a flush at exit."""
    with open("/dev/full", "w", encoding="utf-8") as target:  # noqa: PTH123
        stream = TolerantStream(target)
        stream.write("lost\n")
        stream.flush()


def test_closed_and_missing_targets_lose_text() -> None:
    """A stream that is closed, or that Python has set to None, discards text."""
    closed = io.StringIO()
    closed.close()
    for target in (closed, None):
        stream = TolerantStream(target)
        stream.write("lost\n")
        stream.flush()

        assert not stream.isatty()


def test_letters_that_an_encoding_lacks_are_escaped() -> None:
    """With an ASCII encoding, or for half a surrogate pair."""
    raw = io.BytesIO()
    target = io.TextIOWrapper(raw, encoding="ascii", write_through=True)
    TolerantStream(target).write("Überwachung\ud800\n")

    assert raw.getvalue() == b"\\xdcberwachung\\ud800\n"


def test_slow_reader_of_a_non_blocking_pipe_gets_everything(pipe: tuple[BinaryIO, TextIO]) -> None:
    """A write waits for a pipe that is full for a short time."""
    reader, target = pipe
    os.set_blocking(target.fileno(), False)
    stream = TolerantStream(target)
    text = "".join(f"line {number}\n" for number in range(60_000))
    received = io.BytesIO()

    def read() -> None:
        while piece := reader.read(4096):
            received.write(piece)

    thread = threading.Thread(target=read)
    thread.start()
    stream.write(text)
    target.close()
    thread.join()

    assert received.getvalue().decode() == text


def test_full_non_blocking_pipe_drops_whole_lines_only(
    pipe: tuple[BinaryIO, TextIO], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every line that arrives is complete."""
    monkeypatch.setattr(streams, "PATIENCE_S", 0.01)
    reader, target = pipe
    fcntl.fcntl(target.fileno(), fcntl.F_SETPIPE_SZ, 4096)
    os.set_blocking(target.fileno(), False)
    stream = TolerantStream(target)
    for _ in range(100):
        stream.write("x" * 98 + "\n")
    received = reader.read(4096)
    stream.write("last\n")
    received += reader.read(4096)

    assert set(received.decode().splitlines()) == {"x" * 98, "last"}
    assert received.endswith(b"last\n")


def test_escape_sequences_do_not_reach_the_terminal(pipe: tuple[BinaryIO, TextIO]) -> None:
    """Controls and text direction are escaped; line breaks, tabs and letters are not."""
    reader, target = pipe
    EscapingStream(TolerantStream(target)).write("a\x1b[2Jb\r\u202e\tü قصص\n")

    assert reader.read(100).decode() == "a\\x1b[2Jb\\r\\u202e\tü قصص\n"


def test_guarding_twice_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both streams are replaced once; a progress bar gets the unescaped one."""
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    guard_streams()
    first = sys.stdout, sys.stderr
    guard_streams()

    assert (sys.stdout, sys.stderr) == first
    assert isinstance(unescaped(sys.stderr), TolerantStream)


def test_bytes_are_refused() -> None:
    """Libraries detect text streams by this error."""
    for stream in (TolerantStream(io.StringIO()), EscapingStream(TolerantStream(io.StringIO()))):
        with pytest.raises(TypeError):
            stream.write(b"raw")  # type: ignore[arg-type]
