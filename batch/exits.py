"""How `batch-classify` ends: errors become messages and exit codes."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from batch.exit_codes import FAILED, LOCKED, STOPPED, TOO_MANY_QUARANTINED, USAGE
from schemas import errors

if TYPE_CHECKING:
    from batch.output.record import Counts
    from batch.progress import RunProgress


def exit_code(error: errors.NarrascanError) -> int:
    """The exit code that tells a scheduler what kind of end this was."""
    if isinstance(error, errors.UsageError):
        return USAGE
    if isinstance(error, errors.StoppedError):
        return STOPPED
    return LOCKED if isinstance(error, errors.LockedError) else FAILED


@contextmanager
def exit_codes(progress: RunProgress) -> Iterator[None]:
    """Turn errors into messages and exit codes."""
    try:
        yield
    except errors.NarrascanError as error:
        progress.note("error", f"Error: {error}", kind=type(error).__name__)
        sys.exit(exit_code(error))
    except (OSError, MemoryError) as error:
        progress.note("error", f"Error: {type(error).__name__}: {error}", kind=type(error).__name__)
        sys.exit(FAILED)
    except Exception as error:
        _unexpected(error, progress)


def told(counts: Counts) -> str:
    """One line on what became of the rows."""
    scored = counts.ok + counts.truncated
    return (
        f"{counts.rows:,} rows: {scored:,} scored ({counts.truncated:,} truncated), "
        f"{counts.empty:,} empty, {counts.quarantined:,} quarantined"
    )


def show_results(output: Path) -> None:
    """Where the results of a finished run lie."""
    click.echo(f"predictions: {output / 'predictions'}")
    click.echo(f"report:      {output / 'report.html'}")


def check_quarantine(counts: Counts, allowed: float, output: Path, progress: RunProgress) -> None:
    """Exit with 3 if a greater share of the rows than `allowed` was quarantined."""
    if counts.quarantined_share > allowed:
        progress.note(
            "quarantine",
            f"Error: {counts.quarantined:,} of {counts.rows:,} rows are in quarantine, more than "
            f"the allowed share of {allowed:g}\n"
            f"hint: the reasons are in {output / 'quarantine'}",
        )
        sys.exit(TOO_MANY_QUARANTINED)


def _unexpected(error: Exception, progress: RunProgress) -> NoReturn:
    """A defect of ours: one line for the log, the traceback for whoever reports it."""
    trace = "".join(traceback.format_exception(error))
    progress.note(
        "error",
        f"Error: unexpected {type(error).__name__}: {error}\n"
        "hint: this is a defect in narrascan; what is finished is kept, and the same command "
        f"resumes. Please report it with what follows.\n{trace}",
        kind=type(error).__name__,
    )
    sys.exit(FAILED)
