"""How a system is measured: which rows each of its runs trains on, and which it is tested on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol as TypingProtocol

import numpy as np
import polars as pl

from bench.systems.tables import SPLIT, TRAIN, Tables

SEED = 20261128


@dataclass(frozen=True, eq=False)
class Part:
    """Rows of one run by task, to train on and to test on."""

    train: Tables
    tested: Tables


class Protocol(TypingProtocol):
    """The runs of a system."""

    @property
    def runs(self) -> int:
        """How many there are."""
        ...

    @property
    def same_tests(self) -> bool:
        """Whether all runs are tested on the same rows."""
        ...

    def part(self, tables: Tables, run: int) -> Part:
        """Rows of a run, counted from 0; none is read that it neither trains nor tests on."""
        ...

    def everything(self, tables: Tables) -> Tables:
        """All rows that may be trained on, for the artefact that is kept."""
        ...

    def __str__(self) -> str: ...


@dataclass(frozen=True)
class Folds:
    """Cross-validation: every row is tested once.

    group: column whose values are never divided between training and test, in no table.
    train_on: values by column that training rows are left to; all rows are tested.
    rows, rows_a_group: training rows drawn at most, of each table or of each group.
    """

    runs: int = 5
    group: str | None = None
    train_on: Mapping[str, Sequence[str]] = field(default_factory=dict)
    rows: int | None = None
    rows_a_group: int | None = None
    same_tests = False

    def __post_init__(self) -> None:
        if self.rows_a_group is not None and self.group is None:
            raise ValueError("rows_a_group needs a group")

    def part(self, tables: Tables, run: int) -> Part:
        """One fold is tested."""
        folds = {task: self._folds(rows) for task, rows in tables.items()}
        return Part(
            {
                task: self._to_train(rows.filter(folds[task] != run))
                for task, rows in tables.items()
            },
            {task: rows.filter(folds[task] == run) for task, rows in tables.items()},
        )

    def everything(self, tables: Tables) -> Tables:
        """All rows that training is left to."""
        return {task: self._to_train(rows) for task, rows in tables.items()}

    def _to_train(self, rows: pl.DataFrame) -> pl.DataFrame:
        conditions = [pl.col(name).is_in(list(values)) for name, values in self.train_on.items()]
        rows = rows.filter(*conditions) if conditions else rows
        shuffled_number = pl.int_range(pl.len()).shuffle(SEED)
        if self.rows_a_group is not None and self.group is not None:
            rows = rows.filter(shuffled_number.over(self.group) < self.rows_a_group)
        return rows if self.rows is None else rows.filter(shuffled_number < self.rows)

    def _folds(self, rows: pl.DataFrame) -> pl.Series:
        """Fold of each row. The same groups are in the same folds of all tables."""
        groups = pl.arange(len(rows), eager=True) if self.group is None else rows[self.group]
        return groups.hash(seed=SEED) % self.runs

    def __str__(self) -> str:
        by = f" by {self.group}" if self.group else ""
        limits = [f"{name} {' and '.join(values)}" for name, values in self.train_on.items()]
        if self.rows_a_group is not None:
            limits.append(f"at most {self.rows_a_group} rows of each {self.group}")
        if self.rows is not None:
            limits.append(f"at most {self.rows} rows of each task")
        return ", ".join(
            [f"{self.runs}-fold cross-validation{by}", *(f"trained on {one}" for one in limits)]
        )


@dataclass(frozen=True)
class Split:
    """Training on the part `train`, or on a draw of it, and tests on another part.

    tested: its value of the column `split`. rows: drawn for each run; all where None.
    """

    tested: str
    rows: int | None = None
    runs: int = 3
    same_tests = True

    def part(self, tables: Tables, run: int) -> Part:
        """Another draw, or only another seed, each time."""
        return Part(
            {task: self._draw(rows, run) for task, rows in tables.items()},
            {task: rows.filter(pl.col(SPLIT) == self.tested) for task, rows in tables.items()},
        )

    def everything(self, tables: Tables) -> Tables:
        """The first draw."""
        return {task: self._draw(rows, 0) for task, rows in tables.items()}

    def _draw(self, rows: pl.DataFrame, run: int) -> pl.DataFrame:
        rows = rows.filter(pl.col(SPLIT) == TRAIN)
        if self.rows is None:
            return rows
        chosen = np.random.default_rng((SEED, run)).permutation(len(rows))[: self.rows]
        return rows[np.sort(chosen)]

    def __str__(self) -> str:
        trained = "all" if self.rows is None else f"{self.rows:,}"
        return (
            f"{trained} rows of the part train, tested on the part {self.tested}, {self.runs} seeds"
        )
