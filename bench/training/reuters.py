"""Reuters-21578 from training to scored stories: the two steps of `make reuters` in Python.

`prepare` writes the 3,019 test stories as a corpus; `evaluate` compares predictions with gold
labels.
"""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import click
import numpy as np
import polars as pl

from bench.paths import CONFIGS
from schemas.decision.metrics import Hits
from schemas.tasks.task import label_matrix
from trainer.data.readers.reuters import read_stories

CONFIG = CONFIGS / "reuters.toml"


def topics() -> tuple[str, ...]:
    """The 90 topics of the ModApte split, in the order of the config."""
    return tuple(tomllib.loads(CONFIG.read_text())["tasks"]["topics"]["labels"])


@click.group(help=__doc__)
def main() -> None:
    """Prepare and evaluate the test stories of Reuters-21578."""


@main.command()
@click.argument("sgml", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--output", type=click.Path(path_type=Path), required=True)
def prepare(sgml: Path, output: Path) -> None:
    """Write the test stories with at least one of the 90 topics: id, text, labels."""
    known = set(topics())
    rows = [
        {
            "id": story.identifier,
            "text": story.text,
            "labels": [topic for topic in story.topics if topic in known],
        }
        for story in read_stories(sgml, "TEST")
        if known.intersection(story.topics)
    ]
    output.parent.mkdir(parents=True, exist_ok=True)
    pl.DataFrame(rows).write_parquet(output)
    click.echo(f"{output}: {len(rows):,} test stories")


@main.command()
@click.argument("scored", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.argument("corpus", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--output", type=click.Path(path_type=Path), help="Write the scores here as JSON.")
def evaluate(scored: Path, corpus: Path, output: Path | None) -> None:
    """Compare the predictions of batch-classify with the gold topics."""
    predicted = pl.read_parquet(scored / "predictions" / "*.parquet").select("id", "labels")
    gold = pl.read_parquet(corpus).select("id", gold="labels")
    joined = gold.join(predicted, on="id", how="left", validate="1:1")
    missing = joined["labels"].null_count()
    if missing:
        raise click.ClickException(f"{missing} of {len(joined)} test stories were not scored")
    labels = topics()
    gold_matrix, decisions = (
        label_matrix(joined[column].to_list(), labels, source=column)
        for column in ("gold", "labels")
    )
    hits = Hits.count(gold_matrix, decisions)
    scores = hits.scores()
    several = gold_matrix.sum(axis=1) > 1
    groups = {
        "one topic": Hits.count(gold_matrix[~several], decisions[~several]).scores(),
        "several": Hits.count(gold_matrix[several], decisions[several]).scores(),
    }
    click.echo(f"Reuters-21578, {scores.rows:,} test stories, {len(labels)} topics")
    click.echo(f"micro-F1 {scores.micro_f1:.4f}")
    click.echo(f"macro-F1 {scores.macro_f1:.4f}")
    click.echo(f"exact    {scores.exact_match:.4f}")
    for name, group in groups.items():
        click.echo(f"{name:10} {group.rows:,} stories, micro-F1 {group.micro_f1:.4f}")
    if output is not None:
        label_f1 = dict(zip(labels, np.round(hits.label_f1(), 6).tolist(), strict=True))
        record = {"overall": scores.model_dump(), "label_f1": label_f1}
        output.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
