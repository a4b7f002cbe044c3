"""Progress reports of a run: a bar on a terminal, JSON lines for a scheduler, else notes only.

They never raise, because they write to the streams of `schemas.io.streams`.
"""

from __future__ import annotations

import logging
import sys
import time
from typing import Literal, Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text

from schemas.io.logs import PrintableFormatter
from schemas.io.streams import guard_streams, shows_all_letters, unescaped
from schemas.printable import json_line, message_text

JSON_INTERVAL_S = 10.0
LogFormat = Literal["text", "json"]


class RunProgress(Protocol):
    """Receives the progress of a run."""

    def note(self, event: str, message: str, *, hint: str | None = None, **facts: object) -> None:
        """Report an event on a line of its own. hint: what to do next."""

    def start(self, *, rows: int, done: int) -> None:
        """Scoring begins; `done` rows were finished by an earlier attempt."""

    def advance(self, rows: int, tokens: int) -> None:
        """Rows were scored."""

    def close(self) -> None:
        """Scoring has ended, with or without an error."""


class _Meter:
    """Counts rows and tokens since the start."""

    def __init__(self) -> None:
        self.rows = self.tokens = 0
        self.started = time.monotonic()

    def add(self, rows: int, tokens: int) -> None:
        self.rows += rows
        self.tokens += tokens

    @property
    def seconds(self) -> float:
        return max(time.monotonic() - self.started, 1e-9)


class TerminalProgress:
    """A bar with rows/s, tokens/s and time left; only notes where there is no terminal."""

    def __init__(self) -> None:
        guard_streams()
        self._console = Console(file=unescaped(sys.stderr), soft_wrap=True)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed:,.0f} of {task.total:,.0f} rows"),
            TextColumn("{task.fields[speed]}"),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._meter = _Meter()
        self._task: TaskID | None = None

    def note(self, event: str, message: str, *, hint: str | None = None, **facts: object) -> None:
        self._console.print(Text(message_text(message, hint)))

    def start(self, *, rows: int, done: int) -> None:
        self._meter = _Meter()
        self._task = self._bar.add_task("scoring", total=rows, completed=done, speed="")
        self._bar.start()

    def advance(self, rows: int, tokens: int) -> None:
        self._meter.add(rows, tokens)
        if self._task is not None:
            seconds = self._meter.seconds
            speed = f"{self._meter.rows / seconds:,.0f} rows/s  "
            speed += f"{self._meter.tokens / seconds:,.0f} tokens/s"
            self._bar.update(self._task, advance=rows, speed=speed)

    def close(self) -> None:
        self._bar.stop()


class JsonProgress:
    """One JSON object a line on stderr, for schedulers."""

    def __init__(self) -> None:
        guard_streams()
        self._meter = _Meter()
        self._total = self._done = 0
        self._last = time.monotonic()

    def note(self, event: str, message: str, *, hint: str | None = None, **facts: object) -> None:
        line = {
            "time": round(time.time(), 3),
            "event": event,
            "message": message_text(message, hint),
            **facts,
        }
        stream = unescaped(sys.stderr)
        stream.write(json_line(line, only_ascii=not shows_all_letters(stream)) + "\n")
        stream.flush()

    def start(self, *, rows: int, done: int) -> None:
        self._meter = _Meter()
        self._total, self._done = rows, done
        self.note("start", f"{rows - done} rows to score", rows=rows, rows_done=done)

    def advance(self, rows: int, tokens: int) -> None:
        self._meter.add(rows, tokens)
        now = time.monotonic()
        if now - self._last < JSON_INTERVAL_S:
            return
        self._last = now
        done = self._done + self._meter.rows
        rate = self._meter.rows / self._meter.seconds
        self.note(
            "progress",
            f"{done} of {self._total} rows",
            rows=self._total,
            rows_done=done,
            rows_per_s=round(rate, 1),
            tokens_per_s=round(self._meter.tokens / self._meter.seconds),
            seconds_left=round((self._total - done) / max(rate, 1e-9)),
        )

    def close(self) -> None:
        """There is nothing to close."""


class ProgressHandler(logging.Handler):
    """Reports log records and warnings of libraries as notes of a run."""

    def __init__(self, progress: RunProgress) -> None:
        super().__init__(logging.WARNING)
        self.setFormatter(PrintableFormatter("%(message)s"))
        self._progress = progress

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._progress.note("log", self.format(record), level=record.levelname)
        except Exception:
            self.handleError(record)


def make_progress(log_format: LogFormat) -> RunProgress:
    """Progress in a log format; it also receives the log records of libraries."""
    progress = JsonProgress() if log_format == "json" else TerminalProgress()
    logging.basicConfig(handlers=[ProgressHandler(progress)])
    logging.captureWarnings(True)
    return progress
