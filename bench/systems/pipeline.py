"""From rows to predictions, by the command lines that users have."""

from __future__ import annotations

import logging
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import click
import polars as pl

from bench.systems.measures import GOLD
from bench.systems.tables import SPLIT, Tables

log = logging.getLogger("bench.systems")

INPUTS = ("text", "title", "entity", "start", "end", "article_id", "language", "domain")
"""Columns of a corpus that scoring may read; all others of a table are for training, or gold."""


def train(
    config: Path, tables: Tables, folder: Path, settings: Sequence[str] = ()
) -> tuple[Path, float]:
    """Train a config on these rows; equal rows are one file.

    What was killed is resumed by the same call. settings: `KEY=VALUE` of the config.
    Returns the checkpoint, and the minutes of training.
    """
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint = folder / "checkpoint"
    changes = [*settings]
    files: list[tuple[pl.DataFrame, Path]] = []
    for task, rows in tables.items():
        path = next((path for other, path in files if other.equals(rows)), None)
        if path is None:
            path = (folder / f"train-{task}.parquet").absolute()
            rows.drop(SPLIT, strict=False).write_parquet(path)
            files.append((rows, path))
        changes.append(f"tasks.{task}.data.0.path={path}")
    started = time.monotonic()
    run("train-classifier", str(config), "--output", str(checkpoint), *_sets(changes))
    return checkpoint, (time.monotonic() - started) / 60


def export(checkpoint: Path, folder: Path, settings: Sequence[str] = ()) -> Path:
    """Export a checkpoint. settings: `TASK.KEY=VALUE` of the decision. Returns the bundle."""
    bundle = folder / "bundle"
    words = ("--output", str(bundle), "--precision", "fp32", *_sets(settings))
    run("export-classifier", str(checkpoint), *words)
    return bundle


def score(bundle: Path, tested: Tables, folder: Path) -> dict[str, pl.DataFrame]:
    """Score the rows of each task. Returns predictions with the gold columns beside them."""
    predictions = {}
    for task, rows in tested.items():
        corpus, output = folder / f"test-{task}.parquet", folder / f"scored-{task}"
        rows.select(name for name in INPUTS if name in rows.columns).write_parquet(corpus)
        words = ("--task", task, "--bundle", str(bundle), "--output", str(output), "--overwrite")
        run("batch-classify", str(corpus), *words)
        scored = pl.read_parquet(output / "predictions" / "*.parquet")
        predictions[task] = scored.hstack(rows.select(pl.all().name.prefix(GOLD)))
    return predictions


def _sets(changes: Sequence[str]) -> list[str]:
    return [word for change in changes for word in ("--set", change)]


def run(command: str, *arguments: str) -> None:
    """Run a command of the product; what it prints is shown where it fails."""
    path = Path(sys.executable).with_name(command)
    done = subprocess.run([path, *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise click.ClickException(f"{command} {' '.join(arguments)}:\n{done.stdout}{done.stderr}")
    log.debug("%s", done.stdout)
