"""Messages and exit codes of `batch-classify`."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import click

from batch.exit_codes import FAILED, LOCKED, STOPPED, TOO_MANY_QUARANTINED, USAGE
from schemas import errors
from schemas.cli.commands import Command
from schemas.printable import printable

if TYPE_CHECKING:
    from batch.output.record import Counts
    from batch.pipeline.progress import RunProgress


class LoggedCommand(Command):
    """A command with --log-format; with json, usage errors are JSON lines, too."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments of the command."""
        arguments = [*args]
        try:
            return super().parse_args(ctx, args)
        except click.ClickException as error:
            if not _wants_json(arguments):
                raise
            from batch.pipeline.progress import make_progress

            progress = make_progress("json")
            progress.note("error", f"Error: {error.format_message()}", kind=type(error).__name__)
            ctx.exit(error.exit_code)


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
    in_windows = f"{counts.windowed:,} in windows, " if counts.windowed else ""
    return (
        f"{counts.rows:,} rows: {counts.scored:,} scored ({in_windows}{counts.truncated:,} "
        "truncated), "
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


def _wants_json(arguments: Sequence[str]) -> bool:
    """True if the arguments of a command ask for JSON log lines."""
    return "--log-format=json" in arguments or ("--log-format", "json") in pairwise(arguments)
