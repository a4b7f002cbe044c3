"""What a system is: a config with its data and the way it is measured, or encoders as they are."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl

from bench.paths import CONFIGS
from bench.systems.measures import GOLD, Counter, scores_and_deviations
from bench.systems.pictures import draw_space
from bench.systems.pipeline import export, score, train
from bench.systems.protocols import Protocol
from bench.systems.results import Run, run_of
from bench.systems.tables import Tables
from schemas.config.models import DataConfig
from trainer.ranking import rank_encoders

NEIGHBOURS = 5
VECTORS = "vectors"
"""Task of a config that gives vectors of its texts."""
PICTURED_TEXTS = 500


@dataclass(frozen=True)
class Result:
    """What is reported of a task under a name of its own.

    claims: numbers of the founding document or the paper, by metric; they are not from the same
    rows unless `note` says so. tried: changes of the config that were tried, and what each gave.
    decision: name of one of `System.decisions`; empty for that of the config.
    """

    name: str
    task: str
    counter: Counter
    claims: Mapping[str, str] = field(default_factory=dict)
    note: str = ""
    tried: tuple[str, ...] = ()
    decision: str = ""


@dataclass(frozen=True)
class System:
    """A config with its data and the way it is measured.

    settings: `KEY=VALUE` that change the config. variant: what they make of it, in a word; systems
    with the same results are variants of each other. pictured: gold column whose values a picture
    of the vectors of the first run has in colors; the task `VECTORS` gives them.
    decisions: further settings of the decision, by name; a checkpoint is exported again with each.
    """

    title: str
    config: str
    read: Callable[[Path], Tables]
    protocol: Protocol
    results: tuple[Result, ...]
    settings: tuple[str, ...] = ()
    variant: str = ""
    pictured: str | None = None
    decisions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Name of its folder: that of its first result, and that of the variant."""
        return "-".join(part for part in (self.results[0].name, self.variant) if part)

    @property
    def result_names(self) -> tuple[str, ...]:
        """Names of its results, each once."""
        return tuple(dict.fromkeys(result.name for result in self.results))

    @property
    def data(self) -> str:
        """Name of its data in the results, with the variant."""
        config = self.config.removesuffix(".toml")
        return f"{config}, {self.variant}" if self.variant else config

    @property
    def first_data(self) -> str:
        """That of its first result."""
        return self.data_of(self.results[0])

    def data_of(self, result: Result) -> str:
        """Name of the data of a result, with its task if several share the name, and decision."""
        tasks = {other.task for other in self.results if other.name == result.name}
        task = result.task if len(tasks) > 1 else ""
        return ", ".join(part for part in (self.data, task, result.decision) if part)

    @property
    def picture(self) -> str:
        """Name of the picture of its vectors."""
        return f"systems-{self.name}.png"

    @property
    def how(self) -> str:
        """Config and protocol, as Markdown."""
        return f"[configs/{self.config}](../../configs/{self.config}), {self.protocol}"

    @property
    def runs(self) -> int:
        """Trainings that its numbers are means of."""
        return self.protocol.runs

    def measure(
        self, data: Path, number: int, folder: Path, settings: Sequence[str], pages: Path
    ) -> list[Run]:
        """Train, export and score one run. Returns it for each result.

        pages: folder of the picture, see `pictured`.
        """
        part = self.protocol.part(self.read(data), number)
        changes = [f"seed={number}", *self.settings, *settings]
        checkpoint, minutes = train(CONFIGS / self.config, part.train, folder, changes)
        predictions = {
            decision: score(export(checkpoint, folder, deciding), part.tested, folder)
            for decision, deciding in {"": (), **self.decisions}.items()
        }
        if self.pictured is not None and number == 0:
            shown = predictions[""][VECTORS].head(PICTURED_TEXTS)
            vectors = np.array(shown["embedding"].to_list(), np.float32)
            draw_space(vectors, shown[GOLD + self.pictured].to_list(), pages / self.picture)
        runs = [
            self._run_of(result, predictions[result.decision][result.task], number, minutes)
            for result in self.results
        ]
        shutil.rmtree(folder)
        return runs

    def _run_of(self, result: Result, answers: pl.DataFrame, number: int, minutes: float) -> Run:
        return run_of(
            result.name,
            self.data_of(result),
            number,
            scores_and_deviations(result.counter(answers), len(answers)),
            same_tests=self.protocol.same_tests,
            tested=len(answers),
            minutes=minutes,
        )

    def keep(self, data: Path, folder: Path, settings: Sequence[str]) -> Path:
        """Train on all rows that may be, and export. Returns the bundle."""
        everything = self.protocol.everything(self.read(data))
        changes = [*self.settings, *settings]
        checkpoint, _ = train(CONFIGS / self.config, everything, folder, changes)
        return export(checkpoint, folder)


@dataclass(frozen=True)
class FrozenSystem:
    """Encoders as they are, ranked by their nearest neighbours on several sets.

    sets: of each set its file below the folder of the public sets, and the column of its labels.
    """

    title: str
    encoders: tuple[str, ...]
    sets: Mapping[str, tuple[str, str]]
    results: tuple[Result, ...]
    runs = 1

    @property
    def name(self) -> str:
        """Name of its folder, that of its result."""
        return self.results[0].name

    @property
    def result_names(self) -> tuple[str, ...]:
        """Name of its result."""
        return (self.name,)

    @property
    def first_data(self) -> str:
        """Name of the first of its sets."""
        return next(iter(self.sets))

    @property
    def how(self) -> str:
        """Encoders, as Markdown."""
        names = ", ".join(f"`{one}`" for one in self.encoders)
        return f"`train-classifier rank-encoders` with {names}, {NEIGHBOURS} neighbours"

    def measure(
        self, data: Path, number: int, folder: Path, settings: Sequence[str], pages: Path
    ) -> list[Run]:
        """Rank the encoders on each set; nothing is trained."""
        return [self._measure_set(name, data, number) for name in self.sets]

    def _measure_set(self, name: str, data: Path, number: int) -> Run:
        file, column = self.sets[name]
        started = time.monotonic()
        ranking = rank_encoders(
            DataConfig(path=data / file, labels_column=column), self.encoders, neighbours=NEIGHBOURS
        )
        scores = {
            f"accuracy_{one.pooling}_{one.encoder.removeprefix('package:')}": one.score
            for one in ranking.encoders
        }
        deviations = {
            metric: (value * (1 - value) / ranking.rows) ** 0.5 for metric, value in scores.items()
        }
        return run_of(
            self.name,
            name,
            number,
            (scores, deviations),
            same_tests=True,
            tested=ranking.rows,
            minutes=(time.monotonic() - started) / 60,
        )

    def keep(self, data: Path, folder: Path, settings: Sequence[str]) -> None:
        """There is nothing to keep."""
