"""`train-classifier`: the command line of the trainer."""

from __future__ import annotations

import logging
from pathlib import Path

import click
from click_default_group import DefaultGroup

from schemas.errors import NarrascanError

CONFIG_FILE = click.Path(path_type=Path, dir_okay=False, exists=True)
SET_OPTION = click.option(
    "--set",
    "overrides",
    metavar="KEY=VALUE",
    multiple=True,
    help="Replace one value of the config, as in --set train.epochs=3; may be given again.",
)


@click.group(cls=DefaultGroup, default="train", default_if_no_args=False)
@click.version_option(package_name="narrascan")
def main() -> None:
    """Fine-tune one encoder for several tasks at once.

    `train-classifier CONFIG --output DIR` is short for `train-classifier train ...`.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("accelerate").setLevel(logging.WARNING)


@main.command("train")
@click.argument("config", type=CONFIG_FILE)
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("artifacts/checkpoint"),
    show_default=True,
    help="Folder of the checkpoint.",
)
@SET_OPTION
@click.option("--overwrite", is_flag=True, help="Start anew in a folder that holds another run.")
def train_command(config: Path, output: Path, overrides: tuple[str, ...], overwrite: bool) -> None:
    """Fine-tune one encoder for all the tasks of CONFIG, a TOML file.

    The config is checked whole before any data is read. A run that was stopped or killed goes on
    when the same command is given again. When it ends, OUTPUT holds the weights of the best epoch,
    the tokenizer, the held-out texts that `export-classifier` finds thresholds on, history.json
    and a picture of the curves.

    \b
    Examples:
      train-classifier samples/newsroom.toml
      train-classifier samples/newsroom.toml --set train.epochs=3 --output artifacts/quick
    """
    try:
        from schemas.config import load_config

        settings = load_config(config, overrides)
        from trainer.loop import train

        files = train(settings, output, overwrite=overwrite)
    except (NarrascanError, OSError) as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"checkpoint: {files.folder}")
    click.echo(f"curves:     {files.curves}")
    click.echo(f"next:       export-classifier {files.folder}")
