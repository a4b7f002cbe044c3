"""Click commands with printable errors, and with streams that never raise."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import click
from click_default_group import DefaultGroup

from schemas.errors import NarrascanError, unexpected_text
from schemas.io.streams import guard_streams
from schemas.printable import message_text, printable_lines


@contextmanager
def printable_usage() -> Iterator[None]:
    """Escape arguments that click quotes in a usage error."""
    try:
        yield
    except click.exceptions.NoArgsIsHelpError:
        raise
    except click.UsageError as error:
        message = printable_lines(error.format_message())
        raise click.UsageError(message, ctx=error.ctx) from error


class Command(click.Command):
    """A command whose usage errors are printable."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments of the command."""
        with printable_usage():
            return super().parse_args(ctx, args)


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


class CommandGroup(DefaultGroup):  # type: ignore[misc]  # click-default-group has no types
    """A command group with a default command; unexpected errors become messages, too."""

    command_class = Command

    def main(self, *args: Any, **options: Any) -> Any:
        """Run the command line, with streams that never raise."""
        guard_streams()
        return super().main(*args, **options)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments before the command."""
        with printable_usage():
            return list(super().parse_args(ctx, args))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Choose the command."""
        with printable_usage():
            name, command, arguments = super().resolve_command(ctx, args)
            return name, command, arguments

    def invoke(self, ctx: click.Context) -> Any:
        """Run the chosen command; an unexpected error is shown with its traceback, exit 1."""
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.Abort, click.exceptions.Exit):
            raise
        except NarrascanError as error:
            raise click.ClickException(str(error)) from error
        except Exception as error:
            raise click.ClickException(message_text(*unexpected_text(error))) from error


def _wants_json(arguments: Sequence[str]) -> bool:
    """True if the arguments of a command ask for JSON log lines."""
    return "--log-format=json" in arguments or ("--log-format", "json") in pairwise(arguments)
