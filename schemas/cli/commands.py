"""Click commands with printable errors, and with streams that never raise."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from schemas.errors import NarrascanError, UsageError, error_text, unexpected_text
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


@contextmanager
def reported_errors() -> Iterator[None]:
    """Turn errors that users can act on into a message, and exit 2 for a usage error, else 1."""
    try:
        yield
    except UsageError as error:
        raise click.UsageError(error_text(error)) from error
    except (NarrascanError, OSError) as error:
        raise click.ClickException(error_text(error)) from error


class Command(click.Command):
    """A command whose usage errors are printable."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments of the command."""
        with printable_usage():
            return super().parse_args(ctx, args)


class CommandGroup(click.Group):
    """A command group with a default command; unexpected errors become messages, too.

    default: command that is run if the first argument is not the name of a command.
    """

    command_class = Command
    ignore_unknown_options = True

    def __init__(self, *args: Any, default: str, **options: Any) -> None:
        super().__init__(*args, **options)
        self._default = default

    def main(self, *args: Any, **options: Any) -> Any:
        """Run the command line, with streams that never raise."""
        guard_streams()
        return super().main(*args, **options)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments before the command."""
        with printable_usage():
            return super().parse_args(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of the commands, the default first."""
        return sorted(self.commands, key=lambda name: (name != self._default, name))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Choose the command."""
        with printable_usage():
            named = args[0] in self.commands
            return super().resolve_command(ctx, args if named else [self._default, *args])

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
