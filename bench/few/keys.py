"""What each key of the config gains: the default recipe with one key changed, at 200 labelled rows.

Every change is trained on the same draws as the default, so that differences are within a draw. A
finished draw is kept in the results file: the same command resumes where an earlier one ended.
Writes bench/results/keys.json and docs/lab/keys.md.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Iterator, Mapping
from itertools import product
from pathlib import Path
from statistics import fmean, stdev
from types import MappingProxyType

import click

from bench.few.product import TASK, train_and_answer
from bench.few.scoring import score_answers
from bench.few.sets import LabelledSet, load_set
from bench.paths import RESULTS, ROOT
from bench.results_file import Record, ResultsFile
from schemas.cli.types import Duration
from schemas.io.files import write_atomic
from schemas.markdown import Markdown, markdown_table

ROWS = 200
SETS_COMPARED = ("trec", "rock-news")
DRAWS = 3
FEWEST = 3
"""Differences that a standard error takes."""
UNCHANGED = "default"

CHANGES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        UNCHANGED: (),
        "epochs = 4": ("train.epochs=4",),
        "epochs = 16": ("train.epochs=16",),
        "epoch_steps = 1": ("train.epoch_steps=1",),
        "epoch_steps = 50": ("train.epoch_steps=50",),
        "batch_rows = 8": ("train.batch_rows=8",),
        "batch_rows = 32": ("train.batch_rows=32",),
        "learning_rate = 1e-4": ("train.learning_rate=1e-4",),
        "learning_rate = 4e-4": ("train.learning_rate=4e-4",),
        "head_rate = 1": ("train.head_rate=1.0",),
        "token_dropout = 0": ("train.token_dropout=0.0",),
        "dropout = 0": ("train.dropout=0.0",),
        "weight_decay = 0": ("train.weight_decay=0.0",),
        "warmup_share = 0": ("train.warmup_share=0.0",),
        "clip_norm = 1000": ("train.clip_norm=1000.0",),
        "frozen_embeddings = false": ("encoder.frozen_embeddings=false",),
        "encoder.dropout = 0.1": ("encoder.dropout=0.1",),
        'head = "mean"': ("tasks.{task}.head=mean", "tasks.{task}.head_start=random"),
        'head_start = "random"': ("tasks.{task}.head_start=random",),
        "lexical_features = false": ("tasks.{task}.lexical_features=false",),
        'sampling = "class_aware"': ("tasks.{task}.sampling=class_aware",),
        'sampling = "repeat_factor"': ("tasks.{task}.sampling=repeat_factor",),
        'loss = "bce" or "weighted-ce"': ("tasks.{task}.loss.name={loss}",),
        "validation_share = 0.3": ("tasks.{task}.data.0.validation_share=0.3",),
    }
)
"""Overrides of the config by the change that they make."""

OTHER_LOSSES: Mapping[str, str] = MappingProxyType(
    {"multilabel": "bce", "multiclass": "weighted-ce"}
)

PAGE = """# What each key of the config gains

`python -m bench.few.keys` wrote this page from
[bench/results/keys.json](../../bench/results/keys.json): the default recipe with one key changed,
trained on {rows} labelled rows (draws of each set: {draws}) and scored on others, 128 tokens of a
text. Columns are differences from the default on the same draws, in points of accuracy (trec) or
micro-F1 (rock-news), then the mean of all and its standard error, and the seconds of training in
percent of those of the default. Draws alone move a score by two or three points.

{table}
The default scores {scores}.

## Keys of particular tasks

Measured on the data that they are for, mostly one run each; see
[systems on real data](../benchmarks/systems.md).

| key | data | without | with |
| --- | --- | ---: | ---: |
| `entity_tokens = 96` | roles of entities, exact match, jointly with narratives | .16 | .23 |
| `decision.most_labels = 1` and the term of the entity's tokens | the same | .08 | .16 |
| `train.metric_tasks = ["roles"]` | the same | .23 | .23, from the same epoch |
| `parents` (two levels) | the same | .20 | .23 |
| `alignment = "memory"` | 50 question classes, accuracy | .55, frozen | .89 |
| `pairs = "sampled"` | the same, `alignment = "batch"` | .86 | .83 |
"""

log = logging.getLogger("bench.few")


class KeyDraw(Record):
    """A change trained on a draw. score: the main one of the set, in [0, 1]."""

    change: str
    data: str
    draw: int
    score: float
    seconds: float


class KeyResults(ResultsFile):
    """`bench/results/keys.json`."""

    draws: tuple[KeyDraw, ...] = ()

    def find(self, change: str, data: str, draw: int) -> KeyDraw | None:
        """A finished draw."""
        key = (change, data, draw)
        return next((one for one in self.draws if (one.change, one.data, one.draw) == key), None)


@click.command(help=__doc__)
@click.argument("data", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option(
    "--budget",
    type=Duration(),
    default="24h",
    show_default=True,
    help="Start no draw after this time, as in 90m.",
)
@click.option("--work", type=click.Path(path_type=Path), default=Path("artifacts/keys"))
@click.option("--results", type=click.Path(path_type=Path), default=RESULTS / "keys.json")
@click.option("--page", type=click.Path(path_type=Path), default=ROOT / "docs" / "lab" / "keys.md")
def main(data: Path, budget: float, work: Path, results: Path, page: Path) -> None:
    """Measure what is missing, and write the page."""
    logging.basicConfig(level=logging.ERROR, format="%(message)s")
    log.setLevel(logging.INFO)
    deadline = time.monotonic() + budget
    measured = KeyResults.read(results)
    sets = [load_set(name, data) for name in SETS_COMPARED]
    for number, change, one in product(range(DRAWS), CHANGES, sets):
        if measured.find(change, one.name, number) is not None:
            continue
        if time.monotonic() > deadline:
            log.info("the budget is used up; the same command resumes")
            break
        draw = _measure(one, change, number, work)
        measured = KeyResults(draws=(*measured.draws, draw))
        measured.write(results)
        log.info(
            "%s, %s, draw %d: %.3f in %.0f s", change, one.name, number, draw.score, draw.seconds
        )
    write_atomic(page, keys_page(measured))
    click.echo(f"{results}: {len(measured.draws)} draws; {page}")


def _measure(one: LabelledSet, change: str, number: int, work: Path) -> KeyDraw:
    overrides = [
        override.format(task=TASK, loss=OTHER_LOSSES[one.kind]) for override in CHANGES[change]
    ]
    answers, seconds = train_and_answer(one, one.draw(ROWS, number), work, overrides)
    shutil.rmtree(work)
    scores, _ = score_answers(one, answers)
    return KeyDraw(
        change=change,
        data=one.name,
        draw=number,
        score=scores[one.metrics[0]],
        seconds=round(seconds, 1),
    )


def keys_page(results: KeyResults) -> str:
    """The page, with a row for each change that was measured."""
    changes = [change for change in CHANGES if change != UNCHANGED]
    rows = [row for change in changes if (row := _row(results, change)) is not None]
    defaults = {
        name: [one.score for one in results.draws if (one.change, one.data) == (UNCHANGED, name)]
        for name in SETS_COMPARED
    }
    scores = ", ".join(f"{fmean(of):.3f} on {name}" for name, of in defaults.items() if of)
    heading = ["change", *SETS_COMPARED, "mean", "standard error", "time"]
    return PAGE.format(
        rows=ROWS,
        draws=max(map(len, defaults.values())),
        table=markdown_table(heading, rows),
        scores=scores,
    )


def _row(results: KeyResults, change: str) -> list[str] | None:
    by_set = {name: list(_pairs(results, change, name)) for name in SETS_COMPARED}
    gains = {
        name: [100 * (one.score - before.score) for one, before in pairs]
        for name, pairs in by_set.items()
    }
    every = [gain for of_set in gains.values() for gain in of_set]
    if not every:
        return None
    pairs = [pair for of_set in by_set.values() for pair in of_set]
    share = sum(one.seconds for one, _ in pairs) / sum(before.seconds for _, before in pairs)
    error = f"{stdev(every) / len(every) ** 0.5:.1f}" if len(every) >= FEWEST else "–"
    cells = [f"{fmean(of_set):+.1f}" if of_set else "–" for of_set in gains.values()]
    name = Markdown(f"`{change}`")
    return [name, *cells, f"{fmean(every):+.1f}", error, f"{share:.0%}"]


def _pairs(results: KeyResults, change: str, data: str) -> Iterator[tuple[KeyDraw, KeyDraw]]:
    """Draws of a change, each with that of the default."""
    for one in results.draws:
        if (one.change, one.data) == (change, data):
            before = results.find(UNCHANGED, data, one.draw)
            if before is not None:
                yield one, before


if __name__ == "__main__":
    main()
