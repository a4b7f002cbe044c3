"""Exception classes. Each message says what was wrong, what was expected, and what to do next.

Only the command lines (`*/cli.py`) turn these into messages and exit codes.
"""

from __future__ import annotations

import difflib
import traceback
from collections.abc import Iterable

from schemas.printable import message_text, printable_lines


class NarrascanError(Exception):
    """Base class of every error that a user can act on.

    message: what was wrong, with the value, the file and the row where there are any.
    hint: what to do next, one sentence.
    """

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return message_text(self.message, self.hint)


class ConfigError(NarrascanError):
    """A training config is not valid; the message lists every problem with its key."""


class DataError(NarrascanError):
    """Labelled data cannot be used for training or evaluation."""


class EncoderError(NarrascanError):
    """The encoder named in a config cannot be found or loaded."""


class TrainingError(NarrascanError):
    """A training run cannot continue."""


class CheckpointError(NarrascanError):
    """A checkpoint folder is missing, incomplete, or from another run."""


class ExportError(NarrascanError):
    """An exported file differs from the model it came from, or could not be made."""


class BundleError(NarrascanError):
    """A bundle is missing, incomplete, changed since it was written, or too new."""


class CorpusError(NarrascanError):
    """A corpus cannot be read or lacks what the task needs."""


class DeviceError(NarrascanError):
    """The requested device is not available."""


class OutputError(NarrascanError):
    """The output folder cannot be written, or belongs to another run."""


class OutOfMemoryError(NarrascanError):
    """Memory ran out, and batches and chunks cannot be halved any further."""


class LockedError(NarrascanError):
    """Another run has locked the output folder."""


class StoppedError(NarrascanError):
    """The run was stopped early on purpose; the same command resumes it."""


class UsageError(NarrascanError):
    """The command was called with invalid options."""


def error_text(error: Exception) -> str:
    """Printable text of an error: our own with its hint, one of a library escaped."""
    if isinstance(error, NarrascanError):
        return str(error)
    return printable_lines(str(error) or type(error).__name__)


def unexpected_text(error: Exception) -> tuple[str, str]:
    """Message, with the traceback, and hint for an unexpected error."""
    trace = "".join(traceback.format_exception(error)).rstrip("\n")
    return (
        f"unexpected {type(error).__name__}: {error}\n{trace}",
        "this is a bug in narrascan; please report it with the lines above",
    )


def nearest(name: str, candidates: Iterable[str]) -> str | None:
    """Return the candidate closest to `name`, or None if none is close."""
    by_folded = {candidate.casefold(): candidate for candidate in candidates}
    matches = difflib.get_close_matches(name.casefold(), by_folded, n=1, cutoff=0.5)
    return by_folded[matches[0]] if matches else None


def listing(names: Iterable[str], limit: int = 12) -> str:
    """Join names for a message, cut after `limit` of them."""
    quoted = [repr(name) for name in names]
    if not quoted:
        return "none"
    more = f" and {len(quoted) - limit} more" if len(quoted) > limit else ""
    return ", ".join(quoted[:limit]) + more
