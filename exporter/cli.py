"""`export-classifier`: the command line of the exporter."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import click
from click_default_group import DefaultGroup

from schemas.errors import NarrascanError, UsageError

EXISTING_FOLDER = click.Path(path_type=Path, file_okay=False, exists=True)
EXISTING_FILE = click.Path(path_type=Path, dir_okay=False, exists=True)


@click.group(cls=DefaultGroup, default="export", default_if_no_args=False)
@click.version_option(package_name="narrascan")
def main() -> None:
    """Turn a checkpoint into a bundle of self-describing ONNX files.

    `export-classifier CHECKPOINT --output DIR` is short for `export-classifier export ...`.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s")


@main.command()
@click.argument("checkpoint", type=EXISTING_FOLDER)
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("artifacts/bundle"),
    show_default=True,
    help="Folder of the bundle; an older bundle there is replaced.",
)
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="TASK.KEY=VALUE",
    help="Decide other than the training config says; repeatable.",
)
def export(checkpoint: Path, output: Path, settings: tuple[str, ...]) -> None:
    """Export every task of CHECKPOINT and check it against torch.

    Each task becomes one ONNX file with its labels, its calibration and its thresholds inside,
    found on the held-out texts of the checkpoint as its training config says under `decision`,
    or as --set does, and a reliability diagram beside it. If a file differs from the torch model
    by more than the tolerance, nothing is published.

    \b
    Examples:
      export-classifier artifacts/checkpoint --output artifacts/bundle
      export-classifier artifacts/checkpoint --set topics.calibration=isotonic \\
          --set topics.thresholds.strategy=global
    """
    try:
        from exporter.publish import export_checkpoint

        bundle = export_checkpoint(checkpoint, output, settings)
    except UsageError as error:
        raise click.UsageError(str(error)) from error
    except (NarrascanError, OSError) as error:
        raise click.ClickException(str(error)) from error
    tasks = ", ".join(bundle.manifest.tasks)
    click.echo(f"bundle: {output} (tasks: {tasks})")
    click.echo(f"next:   batch-classify articles.parquet --bundle {output} --task NAME")


@main.command()
@click.argument("file", type=EXISTING_FILE)
@click.option("--json", "as_json", is_flag=True, help="Everything, as one JSON object.")
def inspect(file: Path, as_json: bool) -> None:
    """Show what an ONNX FILE says of itself; JSON of a file that tasks share is by task.

    \b
    Example:
      export-classifier inspect artifacts/bundle/narrative.onnx
    """
    try:
        from batch.device import choose_device
        from batch.session import TaskSession
        from exporter.card import model_card

        tasks = TaskSession(file, choose_device("cpu")).described()
    except (NarrascanError, OSError) as error:
        raise click.ClickException(str(error)) from error
    if not as_json:
        click.echo(model_card(tasks))
    elif len(tasks) == 1:
        click.echo(next(iter(tasks.values())).model_dump_json(indent=1))
    else:
        stored = {task: about.model_dump(mode="json") for task, about in tasks.items()}
        click.echo(json.dumps(stored, indent=1, ensure_ascii=False))
