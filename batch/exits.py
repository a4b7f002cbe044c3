"""Messages and exit codes of `batch-classify`."""

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
    """Exit code of an error, by which a scheduler decides what to do."""
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
        hint += "; finished parts are kept, and the same command resumes"
    else:
        return
    progress.note("error", f"Error: {message}", hint=hint, kind=kind)
    sys.exit(code)


def summary_line(counts: Counts) -> str:
    """Row counts of a run: scored, truncated, empty and quarantined rows."""
    scored = counts.ok + counts.truncated
    return (
        f"{counts.rows:,} rows: {scored:,} scored ({counts.truncated:,} truncated), "
        f"{counts.empty:,} empty, {counts.quarantined:,} quarantined"
    )


def show_results(output: Path) -> None:
    """Print the paths of the results of a finished run."""
    click.echo(f"predictions: {printable(str(output / 'predictions'))}")
    click.echo(f"report:      {printable(str(output / 'report.html'))}")


def check_quarantine(counts: Counts, allowed: float, output: Path, progress: RunProgress) -> None:
    """Exit with 3 if a greater share of the rows than `allowed` was quarantined."""
    if not counts.quarantined_share <= allowed:  # not `>`: NaN must not allow every share
        progress.note(
            "quarantine",
            f"Error: {counts.quarantined:,} of {counts.rows:,} rows are in quarantine, more than "
            f"the allowed share of {allowed:g}",
            hint=f"the reasons are in {output / 'quarantine'}",
        )
        sys.exit(TOO_MANY_QUARANTINED)
