"""Click parameter types: paths, durations, and options that an environment variable may set.

A meaningless value is a usage error (exit 2) and is never treated as an option that was left out:
blank paths, environment variables that are set but empty.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from schemas.durations import parse_duration
from schemas.errors import UsageError
from schemas.io.paths import require_local


class NamedPath(click.Path):
    """A path that is not blank, because an empty one would mean the working folder."""

    def __init__(self, **options: Any) -> None:
        super().__init__(path_type=Path, **options)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Check that the value is a path."""
        if not os.fspath(value).strip():
            self.fail("expected a path, but the value is empty", param, ctx)
        return super().convert(value, param, ctx)


class WritablePath(NamedPath):
    """Local path that a command writes to; a URL is a usage error, not a folder called `s3:`."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Check that the value is a local path."""
        name = param.opts[-1] if isinstance(param, click.Option) else "path"
        try:
            path = require_local(os.fspath(value), name)
        except UsageError as error:
            raise click.UsageError(str(error), ctx) from error
        return super().convert(path, param, ctx)


class EnvironmentOption(click.Option):
    """An option whose environment variable must not be empty if it is set.

    click treats an empty variable as one that is not set, so a deployment that lost the value would
    silently stop to require a signature.
    """

    def resolve_envvar_value(self, ctx: click.Context) -> str | None:
        """Value of the environment variable, or None if it is not set."""
        names: Sequence[str] = [self.envvar] if isinstance(self.envvar, str) else self.envvar or ()
        for name in names:
            if not os.environ.get(name, "set").strip():
                raise click.UsageError(
                    f"the environment variable {name} is set but empty\nhint: give it the value "
                    f"of {self.opts[0]}, or unset it",
                    ctx,
                )
        return super().resolve_envvar_value(ctx)


class Duration(click.ParamType[float]):
    """Seconds, or numbers with units: 90s, 45m, 1h30m."""

    name = "duration"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Parse the value."""
        try:
            return parse_duration(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)
