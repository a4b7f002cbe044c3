"""`export-classifier`: the command line of the exporter."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from schemas.cli import options as shared
from schemas.cli.commands import CommandGroup, reported_errors
from schemas.cli.types import NamedPath, WritablePath
from schemas.errors import UsageError, listing
from schemas.io.logs import set_up_logging
from schemas.io.streams import shows_all_letters
from schemas.printable import json_line, printable, printable_json

if TYPE_CHECKING:
    from schemas.bundle.metadata import ArtefactMetadata
    from schemas.bundle.variants import Precision

EXISTING_FOLDER = NamedPath(file_okay=False, exists=True)
EXISTING_FILE = NamedPath(dir_okay=False, exists=True)


@click.group(cls=CommandGroup, default="export")
@click.version_option(package_name="narrascan")
def main() -> None:
    """Turn a checkpoint into a bundle of self-describing ONNX files, check it, and sign it.

    `export-classifier CHECKPOINT --output DIR` is short for `export-classifier export ...`.
    """
    set_up_logging()
    logging.getLogger("onnx_ir").setLevel(logging.WARNING)  # it logs every graph it cuts


@main.command()
@click.argument("checkpoint", type=EXISTING_FOLDER)
@shared.output_folder(
    shared.DEFAULT_BUNDLE, "Folder of the bundle; an older bundle there is replaced."
)
@shared.settings(
    "TASK.KEY",
    "Replace one value of a task's decision in the training config, as in "
    "--set topics.calibration=isotonic; repeatable.",
)
@click.option(
    "--precision",
    metavar="LIST",
    help="Precisions to try beside fp32, as in bf16,fp16; one that fails its gate is left out.  "
    "[default: bf16 where this CPU can run it, fp16 where CUDA works]",
)
def export(
    checkpoint: Path, output: Path, settings: tuple[str, ...], precision: str | None
) -> None:
    """Export every task of CHECKPOINT and check it against torch.

    Each task becomes one ONNX file with its labels, its calibration and its thresholds inside,
    found on the held-out texts of the checkpoint as its training config says under `decision`,
    or as --set does, and a reliability diagram beside it. If a file differs from the torch model
    by more than the tolerance, nothing is published.

    A reduced precision is published where it changes the labels of few held-out texts and costs
    hardly any F1; calibration and thresholds are found for each again. batch-classify takes the
    fastest that its machine can run. fp16 is for CUDA; where there is none, the CPU checks it.

    \b
    Examples:
      export-classifier artifacts/checkpoint --output artifacts/bundle
      export-classifier artifacts/checkpoint --set topics.calibration=isotonic \\
          --set topics.thresholds.strategy=global
      export-classifier artifacts/checkpoint --precision bf16,int8
    """
    with reported_errors():
        from exporter.bundle.export import export_checkpoint

        bundle = export_checkpoint(checkpoint, output, settings, _precisions(precision))
    tasks = ", ".join(bundle.manifest.tasks)
    precisions = ", ".join(
        dict.fromkeys(name for one in bundle.manifest.tasks.values() for name in one)
    )
    click.echo(f"bundle: {_name(output)} (tasks: {printable(tasks)}; {precisions})")
    click.echo(f"next:   batch-classify articles.parquet --bundle {_name(output)} --task NAME")


@main.command()
@click.argument("path", metavar="FILE|BUNDLE", type=NamedPath(exists=True))
@click.option("--json", "as_json", is_flag=True, help="Everything, as one JSON object.")
def inspect(path: Path, as_json: bool) -> None:
    """Show what an ONNX FILE, or every file of a BUNDLE, says of itself.

    JSON of a file that tasks share, or of a bundle, is by task.

    \b
    Examples:
      export-classifier inspect artifacts/bundle
      export-classifier inspect artifacts/bundle/narrative.onnx --json
    """
    with reported_errors():
        from batch.engines.graph_file import GraphFile
        from exporter.bundle.card import model_card
        from exporter.bundle.inspection import BundleReport, read_metadata

        if path.is_dir():
            report = BundleReport.of(path)
            shown = report.model_dump_json(indent=1) if as_json else report.text()
        else:
            tasks = read_metadata(GraphFile.of_path(path))
            shown = _as_json(tasks) if as_json else model_card(tasks)
    if as_json:
        shown = printable_json(shown, only_ascii=not shows_all_letters(sys.stdout))
    click.echo(shown)


@main.command()
@click.argument("bundle", type=EXISTING_FOLDER)
@shared.require_signature
@click.option("--json", "as_json", is_flag=True, help="One JSON object a check.")
def verify(bundle: Path, require_signature: Path | None, as_json: bool) -> None:
    """Check BUNDLE again, on any machine, without its checkpoint and without torch.

    Checked are the signature, the sha256 of every file, metadata and tokenizer; that no graph keeps
    weights in other files; that a row's scores are the same to the last bit alone, among other
    rows, in another order and with another number of threads; and that logits of the bundle's probe
    texts are those of the export, within the bound that the metadata names for other kinds of
    machine. Exit 1 if a problem is found.

    \b
    Examples:
      export-classifier verify artifacts/bundle
      export-classifier verify artifacts/bundle --require-signature narrascan.key.pub
    """
    problems = 0
    with reported_errors():
        from exporter.bundle.verify import recheck

        for finding in recheck(bundle, require_signature):
            problems += finding.verdict == "problem"
            click.echo(
                json_line(asdict(finding), only_ascii=not shows_all_letters(sys.stdout))
                if as_json
                else "\n".join(finding.lines(subject_width=16))
            )
    sys.exit(1 if problems else 0)


@main.command()
@click.argument("bundle", type=EXISTING_FOLDER)
@click.option("--task", required=True, help="Task of the bundle, for example narrative.")
@click.option(
    "--data",
    multiple=True,
    required=True,
    metavar="PARQUET",
    help="Labelled rows: file, folder, glob or object-store URL; may be given again.",
)
@shared.output_folder(None, "Folder of the new bundle.  [default: BUNDLE itself is replaced]")
@shared.text_column
@shared.title_column
@click.option(
    "--labels-column",
    default="labels",
    show_default=True,
    help="Column of gold labels; rows where it is null are left out.",
)
@click.option(
    "--ignore-unknown-labels",
    is_flag=True,
    help="Leave labels that the model does not know out instead of refusing them.",
)
@shared.settings(
    "KEY",
    "Replace one value of the bundle's decision, as in --set calibration=isotonic; repeatable.",
)
def recalibrate(
    bundle: Path,
    task: str,
    data: tuple[str, ...],
    output: Path | None,
    text_column: str,
    title_column: str,
    labels_column: str,
    ignore_unknown_labels: bool,
    settings: tuple[str, ...],
) -> None:
    """Fit calibration and thresholds of one task of BUNDLE again, on labelled rows.

    Neither checkpoint nor training is needed: the graph stays, and what it decides by is found on
    the rows as export finds it on held-out texts. Take rows that the model was not trained on.
    Model card and reliability diagram are written again, and the metadata says on what. The new
    bundle is not signed.

    \b
    Examples:
      export-classifier recalibrate artifacts/bundle --task topics --data november.parquet
      export-classifier recalibrate artifacts/bundle --task topics --data november.parquet \\
          --output artifacts/november --set thresholds.objective=precision_floor \\
          --set thresholds.floor=0.8
    """
    target = output or bundle
    with reported_errors():
        from batch.options import CorpusOptions
        from exporter.bundle.recalibrate import recalibrate as recalibrate_bundle

        corpus = CorpusOptions(
            corpus=data,
            text_column=text_column,
            title_column=title_column,
            gold_columns=(labels_column,),
            ignore_unknown_gold=ignore_unknown_labels,
        )
        recalibrate_bundle(bundle, task, corpus, target, settings)
    click.echo(f"bundle: {_name(target)} (task {printable(task)} recalibrated, not signed)")


@main.command()
@click.argument("key", type=WritablePath(dir_okay=False))
def keygen(key: Path) -> None:
    """Make a private KEY to sign bundles with, and KEY.pub to check them with.

    The private key has no password: keep it where secrets are kept.

    \b
    Example:
      export-classifier keygen narrascan.key
    """
    with reported_errors():
        from exporter.bundle.sign import make_keys

        public = make_keys(key)
    click.echo(f"private: {_name(key)}\npublic:  {_name(public)}")


@main.command()
@click.argument("bundle", type=EXISTING_FOLDER)
@click.option("--key", required=True, type=EXISTING_FILE, help="Private key, Ed25519 in PEM.")
def sign(bundle: Path, key: Path) -> None:
    """Sign BUNDLE: `bundle.json.sig` vouches for bundle.json, which contains every file's sha256.

    \b
    Example:
      export-classifier sign artifacts/bundle --key narrascan.key
      batch-classify articles.parquet --task narrative --require-signature narrascan.key.pub
    """
    with reported_errors():
        from exporter.bundle.sign import sign_bundle

        signature = sign_bundle(bundle, key)
    click.echo(f"signed: {_name(bundle)} (key {signature.key_id})")


def _name(path: Path) -> str:
    """A path as it may be shown."""
    return printable(str(path))


def _precisions(words: str | None) -> list[Precision] | None:
    """Take --precision apart. Raises UsageError for one that there is not."""
    if words is None:
        return None
    from schemas.bundle.variants import PRECISIONS

    named = [word.strip() for word in words.split(",")]
    unknown = [word for word in named if word not in PRECISIONS]
    if unknown:
        raise UsageError(
            f"--precision {words!r}: unknown {listing(unknown)}",
            hint=f"there are {listing(PRECISIONS)}",
        )
    return [precision for precision in PRECISIONS if precision in named]


def _as_json(tasks: Mapping[str, ArtefactMetadata]) -> str:
    """One object of a file of one task; of one that tasks share, an object by task."""
    if len(tasks) == 1:
        return next(iter(tasks.values())).model_dump_json(indent=1)
    by_task = {task: metadata.model_dump(mode="json") for task, metadata in tasks.items()}
    return json.dumps(by_task, indent=1, ensure_ascii=False)
