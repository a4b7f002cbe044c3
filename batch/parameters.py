"""Types of command-line options: durations, sizes, shards, paths to write to."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from schemas.durations import parse_duration
from schemas.errors import UsageError
from schemas.paths import require_local

if TYPE_CHECKING:
    from batch.options import Shard

_SHARD = re.compile(r"([1-9]\d{0,5})/([1-9]\d{0,5})")


class Duration(click.ParamType[float]):
    """Seconds, or numbers with units: 90s, 45m, 1h30m."""

    name = "duration"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        try:
            return parse_duration(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


class Size(click.ParamType[int]):
    """Bytes, or a number with a unit: 500MB, 2GB, 2GiB."""

    name = "size"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        from pydantic import ByteSize, NonNegativeInt, TypeAdapter, ValidationError

        try:
            size = TypeAdapter(ByteSize).validate_python(value)
            return TypeAdapter(NonNegativeInt).validate_python(int(size))
        except ValidationError:
            self.fail(f"{value!r} is not a size; write 500MB or 2GB", param, ctx)


class WritablePath(click.Path[Path]):
    """Local path that a command writes to; a URL is a usage error, not a folder called `s3:`."""

    def convert(
        self,
        value: str | os.PathLike[str],
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> Path:
        """Check what the user wrote before anything else happens."""
        name = param.opts[-1] if isinstance(param, click.Option) else "path"
        try:
            path = require_local(os.fspath(value), name)
        except UsageError as error:
            raise click.UsageError(str(error), ctx) from error
        return super().convert(path, param, ctx)


class ShardNumber(click.ParamType["Shard"]):
    """Which part of how many: 2/8."""

    name = "i/n"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> Shard:
        from batch.options import Shard

        match = _SHARD.fullmatch(str(value))
        if match is None or int(match[1]) > int(match[2]):
            self.fail(f"{value!r} is not a shard; of eight, write 1/8 to 8/8", param, ctx)
        return Shard(int(match[1]), int(match[2]))
