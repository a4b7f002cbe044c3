"""Click parameter types of `batch-classify`: shares, sizes, numbers of shards.

A meaningless value is a usage error (exit 2): NaN, numbers beyond any machine.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from batch.options import Shard

MAX_THREADS = 4096
MAX_CHUNK_ROWS = 10_000_000
MAX_TOKENS_PER_BATCH = 2**24
"""Upper bounds beyond any machine; a higher value is a typing error."""
MIN_SIZE, MAX_SIZE = 10**6, 10**15
"""Bytes: a smaller limit leaves room for nothing, a larger one exceeds any disk."""

_SHARD = re.compile(r"([1-9]\d{0,5})/([1-9]\d{0,5})")


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
