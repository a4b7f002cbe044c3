"""Options of several commands, as decorators."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click

from schemas.cli.types import EnvironmentOption, NamedPath, WritablePath

FunctionT = TypeVar("FunctionT", bound=Callable[..., object])

DEFAULT_BUNDLE = Path("artifacts/bundle")
"""Where `make export` writes."""

require_signature = click.option(
    "--require-signature",
    cls=EnvironmentOption,
    type=NamedPath(dir_okay=False, exists=True),
    envvar="NARRASCAN_REQUIRE_SIGNATURE",
    show_envvar=True,
    metavar="PUBLIC_KEY",
    help="Refuse a bundle that this key did not sign, or that was changed since.",
)
log_format = click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="json writes one JSON object per line to stderr.",
)
overwrite = click.option(
    "--overwrite", is_flag=True, help="Discard an earlier run in the output folder and start again."
)
text_column = click.option(
    "--text-column", default="text", show_default=True, help="Column of the article body."
)
title_column = click.option(
    "--title-column",
    default="title",
    show_default=True,
    help="Column of the title; used if it exists and the task was trained with titles.",
)


def output_folder(default: Path | None, text: str) -> Callable[[FunctionT], FunctionT]:
    """`--output DIRECTORY`. default: None if the help names it."""
    return click.option(
        "--output",
        type=WritablePath(file_okay=False),
        default=default,
        show_default=default is not None,
        help=text,
    )


def bundle_folder(default: Path | None, text: str) -> Callable[[FunctionT], FunctionT]:
    """`--bundle DIRECTORY`, or $NARRASCAN_BUNDLE. default: None if the help names it."""
    return click.option(
        "--bundle",
        cls=EnvironmentOption,
        type=NamedPath(file_okay=False),
        envvar="NARRASCAN_BUNDLE",
        default=default,
        show_default=default is not None,
        show_envvar=default is not None,
        help=text,
    )


def settings(key: str, text: str) -> Callable[[FunctionT], FunctionT]:
    """`--set KEY=VALUE`, repeatable."""
    return click.option("--set", "settings", multiple=True, metavar=f"{key}=VALUE", help=text)
