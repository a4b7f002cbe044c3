"""Progress of a training run: a bar on a terminal, else a log line at intervals."""

from __future__ import annotations

import logging
import sys
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from schemas.io.streams import unescaped
from trainer.evaluation.history import EpochRecord

log = logging.getLogger(__name__)

LINE_INTERVAL_S = 15.0


class TrainingProgress:
    """Shows steps, loss, speed and time left. `enabled` is false in all but the main process."""

    def __init__(self, total_steps: int, done_steps: int, *, enabled: bool = True) -> None:
        console = Console(file=unescaped(sys.stderr))
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[detail]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=not enabled or not console.is_terminal,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._lines = enabled and not console.is_terminal
        self._total, self._done = total_steps, done_steps
        self._started = self._last_line = time.monotonic()
        self._rows = self._tokens = 0
        self._id = self._bar.add_task(
            "training", total=total_steps, completed=done_steps, detail=""
        )

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def step(self, *, rows: int, tokens: int, loss: float) -> None:
        """Count one optimizer step."""
        self._done += 1
        self._rows += rows
        self._tokens += tokens
        now = time.monotonic()
        seconds = max(now - self._started, 1e-9)
        detail = (
            f"loss {loss:.4f}  {self._rows / seconds:.0f} articles/s  "
            f"{self._tokens / seconds:,.0f} tokens/s"
        )
        self._bar.update(self._id, advance=1, detail=detail)
        if self._lines and now - self._last_line >= LINE_INTERVAL_S:
            self._last_line = now
            log.info("step %d of %d: %s", self._done, self._total, detail)

    def epoch(self, record: EpochRecord, *, epochs: int, best: bool) -> None:
        """Log the loss and scores of an epoch."""
        for task, scores in record.validation.items():
            log.info(
                "epoch %d of %d, %s: loss %.4f, held-out micro-F1 %.3f, macro-F1 %.3f%s",
                record.epoch,
                epochs,
                task,
                record.loss[task],
                scores.micro_f1,
                scores.macro_f1,
                " (best so far)" if best else "",
            )
