"""Click parameter types and shared options: paths, shares, durations, sizes, shards.

A meaningless value is a usage error (exit 2) and is never treated as an option that was left out:
blank paths, environment variables that are set but empty, NaN, numbers beyond any machine.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from schemas.durations import parse_duration
from schemas.errors import UsageError
from schemas.io.paths import require_local

if TYPE_CHECKING:
    from batch.options import Shard

MAX_THREADS = 4096
MAX_CHUNK_ROWS = 10_000_000
MAX_TOKENS_PER_BATCH = 2**24
"""Upper bounds beyond any machine; a higher value is a typing error."""
MIN_SIZE, MAX_SIZE = 10**6, 10**15
"""Bytes: a smaller limit leaves room for nothing, a larger one exceeds any disk."""

_SHARD = re.compile(r"([1-9]\d{0,5})/([1-9]\d{0,5})")


class NamedPath(click.Path):
    """A path that is not blank, because an empty one would mean the working folder."""

    def __init__(self, **options: Any) -> None:
        super().__init__(path_type=Path, **options)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not os.fspath(value).strip():
            self.fail("expected a path, but the value is empty", param, ctx)
        return super().convert(value, param, ctx)


class EnvironmentOption(click.Option):
    """An option whose environment variable must not be empty if it is set.

    click treats an empty variable as one that is not set, so a deployment that lost the value would
    silently stop to require a signature.
    """

    def resolve_envvar_value(self, ctx: click.Context) -> str | None:
        names: Sequence[str] = [self.envvar] if isinstance(self.envvar, str) else self.envvar or ()
        for name in names:
            if not os.environ.get(name, "set").strip():
                raise click.UsageError(
                    f"the environment variable {name} is set but empty\nhint: give it the value "
                    f"of {self.opts[0]}, or unset it",
                    ctx,
                )
        return super().resolve_envvar_value(ctx)


class Share(click.FloatRange):
    """A number from 0 to 1."""

    name = "share"

    def __init__(self) -> None:
        super().__init__(0.0, 1.0)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        share = super().convert(value, param, ctx)
        if math.isnan(share):  # NaN passes the range check: it is neither below 0 nor above 1
            self.fail(f"{value!r} is not a number from 0 to 1", param, ctx)
        return share


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
        from pydantic import ByteSize, TypeAdapter, ValidationError

        try:
            size = int(TypeAdapter(ByteSize).validate_python(value))
        except (ValidationError, OverflowError):
            self.fail(f"{value!r} is not a size; write 500MB or 2GB", param, ctx)
        if not MIN_SIZE <= size <= MAX_SIZE:
            self.fail(f"{value!r} is not between 1MB and 1PB; write 500MB or 2GB", param, ctx)
        return size


class WritablePath(NamedPath):
    """Local path that a command writes to; a URL is a usage error, not a folder called `s3:`."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        name = param.opts[-1] if isinstance(param, click.Option) else "path"
        try:
            path = require_local(os.fspath(value), name)
        except UsageError as error:
            raise click.UsageError(str(error), ctx) from error
        return super().convert(path, param, ctx)


class ShardNumber(click.ParamType["Shard"]):
    """Number of a shard and number of shards: 2/8."""

    name = "i/n"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> Shard:
        from batch.options import Shard

        match = _SHARD.fullmatch(str(value))
        if match is None or int(match[1]) > int(match[2]):
            self.fail(f"{value!r} is not a shard; expected I/N, such as 1/8 to 8/8", param, ctx)
        return Shard(int(match[1]), int(match[2]))


require_signature = click.option(
    "--require-signature",
    cls=EnvironmentOption,
    type=NamedPath(dir_okay=False, exists=True),
    envvar="NARRASCAN_REQUIRE_SIGNATURE",
    show_envvar=True,
    metavar="PUBLIC_KEY",
    help="Refuse a bundle that this key did not sign, or that was changed since.",
)
"""The option of every command that opens a bundle."""
