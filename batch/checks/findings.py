"""Results of a check as rows of a table: `batch-classify doctor`, `export-classifier verify`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from schemas.errors import NarrascanError
from schemas.printable import printable, printable_lines

Verdict = Literal["ok", "note", "problem"]


@dataclass(frozen=True)
class Finding:
    """One result of a check. advice: how to fix a problem."""

    verdict: Verdict
    subject: str
    text: str
    advice: str | None = None

    @classmethod
    def of_error(cls, subject: str, error: NarrascanError) -> Finding:
        """The problem that an error reports."""
        return cls("problem", subject, error.message, error.hint)

    def lines(self, subject_width: int = 8) -> Iterator[str]:
        """The row of the table, and the advice below it."""
        subject = printable(self.subject)
        yield printable_lines(f"{self.verdict:8} {subject:{subject_width}} {self.text}")
        if self.advice:
            yield printable_lines(f"{'':{9 + subject_width}} hint: {self.advice}")
