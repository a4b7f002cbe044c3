"""Click parameter types: durations and paths to write to."""

from __future__ import annotations

import os
from pathlib import Path

import click

from schemas.durations import parse_duration
from schemas.errors import UsageError
from schemas.io.paths import require_local


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


class WritablePath(click.Path[Path]):
    """Local path that a command writes to; a URL is a usage error, not a folder called `s3:`."""

    def convert(
        self,
        value: str | os.PathLike[str],
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> Path:
        """Check that the value is a local path."""
        name = param.opts[-1] if isinstance(param, click.Option) else "path"
        try:
            path = require_local(os.fspath(value), name)
        except UsageError as error:
            raise click.UsageError(str(error), ctx) from error
        return super().convert(path, param, ctx)
