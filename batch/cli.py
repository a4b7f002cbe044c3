"""`batch-classify`: the command line of the scorer."""

from __future__ import annotations

import faulthandler
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from batch.cli_types import (
    MAX_CHUNK_ROWS,
    MAX_THREADS,
    MAX_TOKENS_PER_BATCH,
    ShardNumber,
    Share,
    Size,
)
from batch.exit_codes import FAILED
from batch.exits import (
    LoggedCommand,
    check_quarantine,
    exit_codes,
    show_results,
    summary_line,
)
from batch.pipeline.stop import StopSwitch, json_message
from schemas.cli import options as shared
from schemas.cli.commands import CommandGroup, reported_errors
from schemas.cli.types import Duration, NamedPath, WritablePath
from schemas.io.streams import shows_all_letters
from schemas.printable import json_line, printable, printable_lines

if TYPE_CHECKING:
    from batch.options import RunOptions
    from batch.pipeline.progress import RunProgress


@click.group(cls=CommandGroup, default="run")
@click.version_option(package_name="narrascan")
def main() -> None:
    """Score Parquet corpora of articles with a bundle written by export-classifier.

    `batch-classify CORPUS... --task NAME` is short for `batch-classify run ...`; see
    `batch-classify run --help` for its options.
    """
    if sys.__stderr__ is not None:
        # A native library that crashes ends the process; this prints the Python call it was in.
        faulthandler.enable(sys.__stderr__)


@main.command(cls=LoggedCommand)
@click.argument("corpus", nargs=-1, required=True, metavar="CORPUS...")
@click.option(
    "--task",
    required=True,
    metavar="NAME[,NAME...]|all",
    help="Tasks of the bundle, for example narrative; tasks that read the same text share one "
    "encoder pass.",
)
@shared.bundle_folder(shared.DEFAULT_BUNDLE, "Folder that export-classifier wrote.")
@shared.output_folder(
    Path("scored"),
    "Folder of the results; the same command resumes an unfinished run in it.",
)
@click.option(
    "--device",
    default="auto",
    show_default=True,
    metavar="auto|cpu|cuda[:N]",
    help="auto prefers CUDA; cuda is an error where CUDA is not available.",
)
@click.option(
    "--precision",
    default="auto",
    show_default=True,
    help="Precision of the model; auto takes the fastest one of the bundle that runs here.",
)
@click.option(
    "--threads",
    type=click.IntRange(0, MAX_THREADS),
    default=0,
    show_default=True,
    help="Engine threads; 0 uses every core. Scores do not depend on it.",
)
@click.option(
    "--chunk-rows",
    type=click.IntRange(1, MAX_CHUNK_ROWS),
    help="Maximum rows of a part; a resumed run repeats unfinished parts.  [default: 4096 on a "
    "CPU, 16384 on CUDA]",
)
@click.option(
    "--max-tokens-per-batch",
    "tokens_per_batch",
    type=click.IntRange(1, MAX_TOKENS_PER_BATCH),
    help="Maximum size of a batch, rows times tokens.  [default: 512 on a CPU, 32768 on CUDA]",
)
@click.option(
    "--gpu-memory-limit",
    "gpu_memory_bytes",
    type=Size(),
    help="Maximum GPU memory for weights and batches, as in 8GB.  [default: all]",
)
@shared.text_column
@shared.title_column
@click.option(
    "--id-column",
    default="article_id",
    show_default=True,
    help="Column of article ids; copied to quarantine files, too.",
)
@click.option(
    "--domain-column",
    default="domain",
    show_default=True,
    help="Column or hive partition that the report is broken down by.",
)
@click.option(
    "--gold-column",
    "gold_columns",
    multiple=True,
    metavar="[TASK=]COLUMN",
    help="Column of gold labels; the report then has precision, recall and F1. With several tasks "
    "TASK=COLUMN, repeatable.",
)
@click.option(
    "--ignore-unknown-gold",
    is_flag=True,
    help="Leave gold labels that the model does not know out of the metrics.",
)
@click.option(
    "--probabilities",
    type=click.Choice(["map", "struct", "none"]),
    default="map",
    show_default=True,
    help="Type of the probabilities column: map from label to probability, the same for every "
    "model; struct with a field for each label; none for no such column.",
)
@click.option(
    "--neighbours",
    is_flag=True,
    help="Add a column with the ids and similarities of the nearest training texts, for tasks that "
    "are decided by them.",
)
@click.option("--keep-text", is_flag=True, help="Keep the text column in the predictions.")
@shared.overwrite
@click.option(
    "--max-quarantined",
    type=Share(),
    default=0.01,
    show_default=True,
    metavar="SHARE",
    help="Maximum share of quarantined rows; above it the run counts as failed (exit 3).",
)
@click.option(
    "--deadline",
    type=Duration(),
    help="Stop after this long (90s, 45m, 1h30m) with exit 4; the same command resumes.",
)
@click.option(
    "--shard",
    type=ShardNumber(),
    metavar="I/N",
    help="Score shard I of N, of equal size; `batch-classify merge` merges the shards.",
)
@click.option(
    "--cache",
    type=WritablePath(file_okay=False),
    help="Folder of a persistent cache: texts that the same model has scored before are not scored "
    "again. With --require-signature no other user may have write access to it.",
)
@click.option(
    "--cache-size",
    "cache_bytes",
    type=Size(),
    default="2GB",
    show_default=True,
    help="Maximum size of the cache; the least recently used entries are removed first.",
)
@shared.require_signature
@click.option(
    "--dry-run",
    is_flag=True,
    help="Check everything; show rows, tokens, expected time and memory; score nothing.",
)
@shared.log_format
@click.pass_context
def run(
    context: click.Context,
    /,
    dry_run: bool,
    log_format: Literal["text", "json"],
    deadline: float | None,
    **values: object,
) -> None:
    """Score CORPUS: Parquet files, folders, globs, hive partitions or object-store URLs.

    Several tasks that read the same text cost little more than one, because the encoder runs once.
    Predictions then have columns TASK_labels and TASK_probabilities for each task.

    The output folder has predictions/*.parquet in input order, quarantine/ with the rows that could
    not be scored and the reasons, report.html, report.json and run.json.

    \b
    Exit codes:
      0  every row scored, or quarantined within --max-quarantined
      1  failed; finished parts are kept, and the same command resumes
      2  usage error
      3  finished, but more rows quarantined than allowed
      4  stopped early (SIGTERM, SIGINT or --deadline); the same command resumes
      5  another run has locked this output folder

    \b
    Examples:
      batch-classify articles.parquet --task narrative
      batch-classify 'lake/dt=2026-*/' --task narrative --output scored/november
      batch-classify articles.parquet --task narrative,topics
      batch-classify test.parquet --task topics --gold-column labels --log-format json
    """
    from batch.options import RunOptions
    from batch.pipeline.progress import make_progress

    switch = _stop_switch(context, log_format)
    switch.set_deadline(deadline)
    options = RunOptions.of({**values, "named_columns": _named_columns(context)})
    progress = make_progress(log_format)
    with switch.listening(), exit_codes(progress):
        if dry_run:
            _dry_run(options, log_format, switch)
        else:
            _score(options, progress, switch)


@main.command(cls=LoggedCommand)
@click.argument("shards", nargs=-1, required=True, metavar="SHARD_DIR...", type=NamedPath())
@shared.output_folder(
    Path("scored"),
    "Folder of the merged results; the same command resumes an unfinished merge in it.",
)
@shared.overwrite
@shared.log_format
@click.pass_context
def merge(
    context: click.Context,
    /,
    shards: tuple[Path, ...],
    output: Path,
    overwrite: bool,
    log_format: Literal["text", "json"],
) -> None:
    """Merge the finished shards of one run into one output folder.

    The results are those of a run without --shard. Needs neither the corpus nor the bundle nor an
    engine. Exit codes are those of `run`.

    \b
    Examples:
      batch-classify articles/ --task narrative --shard 1/2 --output shards/1
      batch-classify articles/ --task narrative --shard 2/2 --output shards/2
      batch-classify merge shards/1 shards/2 --output scored
    """
    from batch.pipeline.progress import make_progress

    progress = make_progress(log_format)
    switch = _stop_switch(context, log_format)
    with switch.listening(), exit_codes(progress):
        from batch.pipeline.merge import merge as merge_shards

        result = merge_shards(shards, output, progress, switch, overwrite=overwrite)
        progress.note("finished", f"{summary_line(result.counts)}; {len(shards)} shards merged")
        show_results(output)
        check_quarantine(result.counts, result.max_quarantined, output, progress)


@main.command()
@shared.bundle_folder(None, "Bundle to check, too.  [default: artifacts/bundle, if it exists]")
@shared.require_signature
def doctor(bundle: Path | None, require_signature: Path | None) -> None:
    """Check the installation: cores, processor, memory, engine, CUDA libraries, the bundle.

    Of a bundle every file and the signature are checked, and each task scores one text. Exit 1 if
    there is a problem.
    """
    from batch.checks.doctor import examine

    if bundle is None and shared.DEFAULT_BUNDLE.exists():
        bundle = shared.DEFAULT_BUNDLE
    problems = 0
    with reported_errors():
        for finding in examine(bundle, require_signature):
            problems += finding.verdict == "problem"
            click.echo("\n".join(finding.lines()))
    sys.exit(FAILED if problems else 0)


def _stop_switch(context: click.Context, log_format: Literal["text", "json"]) -> StopSwitch:
    """The switch of `batch.__main__`, or a new one without a grace period."""
    switch = context.obj if isinstance(context.obj, StopSwitch) else StopSwitch()
    if log_format == "json":
        switch.message_format = json_message
    return switch


def _named_columns(context: click.Context) -> frozenset[str]:
    """Columns named on the command line, which must exist, unlike those of the defaults."""
    default = click.core.ParameterSource.DEFAULT
    return frozenset(
        str(context.params[name])
        for name in ("title_column", "id_column", "domain_column")
        if context.get_parameter_source(name) is not default
    )


def _score(options: RunOptions, progress: RunProgress, switch: StopSwitch) -> None:
    from batch.pipeline.run import run as run_corpus

    result = run_corpus(options, progress, switch)
    progress.note(
        "finished",
        f"{summary_line(result.counts)}; {result.scored_now:,} now, in {result.seconds:.1f} s on "
        f"{result.device}",
        rows=result.counts.rows,
        quarantined=result.counts.quarantined,
        seconds=round(result.seconds, 3),
    )
    output = options.output
    if output.shard is None:
        show_results(output.folder)
    else:
        click.echo(f"shard {output.shard}:   {printable(str(output.folder))}")
    check_quarantine(result.counts, output.max_quarantined, output.folder, progress)


def _dry_run(options: RunOptions, log_format: Literal["text", "json"], switch: StopSwitch) -> None:
    from batch.pipeline.estimate import estimate

    expected = estimate(options, switch)
    if log_format == "json":
        click.echo(json_line(expected.facts(), only_ascii=not shows_all_letters(sys.stdout)))
    else:
        click.echo("\n".join(map(printable_lines, expected.lines())))
