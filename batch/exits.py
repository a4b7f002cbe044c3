"""How `batch-classify` ends: errors become messages and exit codes."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from batch.exit_codes import FAILED, LOCKED, STOPPED, TOO_MANY_QUARANTINED, USAGE
from schemas import errors
from schemas.printable import printable

if TYPE_CHECKING:
    from batch.output.record import Counts
    from batch.pipeline.progress import RunProgress


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
        code = exit_code(error)
        message, hint = error.message, error.hint
        kind = type(error).__name__
    except (OSError, MemoryError) as error:
        code, kind = FAILED, type(error).__name__
        message, hint = f"{kind}: {error}", None
    except Exception as error:
        code, kind = FAILED, type(error).__name__
        message, hint = errors.unexpected_text(error)
        hint += "; what is finished is kept, and the same command resumes"
    else:
        return
    progress.note("error", f"Error: {message}", hint=hint, kind=kind)
    sys.exit(code)


def told(counts: Counts) -> str:
    """One line on what became of the rows."""
    scored = counts.ok + counts.truncated
    return (
        f"{counts.rows:,} rows: {scored:,} scored ({counts.truncated:,} truncated), "
        f"{counts.empty:,} empty, {counts.quarantined:,} quarantined"
    )


def show_results(output: Path) -> None:
    """Where the results of a finished run lie."""
    click.echo(f"predictions: {printable(str(output / 'predictions'))}")
    click.echo(f"report:      {printable(str(output / 'report.html'))}")


def check_quarantine(counts: Counts, allowed: float, output: Path, progress: RunProgress) -> None:
    """Exit with 3 if a greater share of the rows than `allowed` was quarantined."""
    if not counts.quarantined_share <= allowed:  # where `allowed` is no number, nothing is
        progress.note(
            "quarantine",
            f"Error: {counts.quarantined:,} of {counts.rows:,} rows are in quarantine, more than "
            f"the allowed share of {allowed:g}",
            hint=f"the reasons are in {output / 'quarantine'}",
        )
        sys.exit(TOO_MANY_QUARANTINED)
