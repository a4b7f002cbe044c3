"""`bench/results/systems.json`: every run of a system, and their means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from statistics import fmean, stdev
from typing import Self

import numpy as np

from bench.results_file import Record, ResultsFile

TWO_SIDED_95 = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26)
"""Student's t for 1, 2, ... degrees of freedom."""


class Run(Record):
    """One training of a system.

    scores: by metric. deviations: how far each would move with other test rows, by bootstrap.
    tested: test rows. minutes: of training.
    """

    system: str
    data: str
    run: int
    scores: dict[str, float]
    deviations: dict[str, float]
    same_tests: bool
    tested: int
    minutes: float

    @property
    def place(self) -> tuple[str, str, int]:
        """What is measured once."""
        return self.system, self.data, self.run


DIGITS = 4


def run_of(
    system: str,
    data: str,
    number: int,
    scores_and_deviations: tuple[Mapping[str, float], Mapping[str, float]],
    *,
    same_tests: bool,
    tested: int,
    minutes: float,
    digits: int = DIGITS,
) -> Run:
    """A run with its numbers rounded to so many digits."""
    scores, deviations = (
        {name: round(value, digits) for name, value in numbers.items()}
        for numbers in scores_and_deviations
    )
    return Run(
        system=system,
        data=data,
        run=number,
        scores=scores,
        deviations=deviations,
        same_tests=same_tests,
        tested=tested,
        minutes=round(minutes, 2),
    )


class Row(Record):
    """Mean of the runs of a system, with a 95 % interval for other runs and other test rows.

    document: number of the founding document or a paper. tried: what was tried besides.
    """

    system: str
    data: str
    metric: str
    value: float
    low: float
    high: float
    runs: int
    minutes: float
    document: str | None
    tried: tuple[str, ...]


@dataclass(frozen=True)
class Remarks:
    """What is said of a result besides its numbers.

    claims: published numbers by metric. tried: changes that were tried, and what each gave.
    """

    claims: Mapping[str, str] = field(default_factory=dict)
    tried: Sequence[str] = ()


class Results(ResultsFile):
    """The file."""

    rows: tuple[Row, ...] = ()
    runs: tuple[Run, ...] = ()

    def has(self, system: str, data: str, run: int) -> bool:
        """Whether a run has been measured."""
        return (system, data, run) in [one.place for one in self.runs]

    def with_runs(
        self,
        added: Sequence[Run],
        remarks: Mapping[tuple[str, str], Remarks],
    ) -> Self:
        """Add runs, or replace them, and take the means again. remarks: by system and data."""
        places = {one.place for one in added}
        others = [one for one in self.runs if one.place not in places]
        runs = sorted([*others, *added], key=lambda one: one.place)
        rows = tuple(
            row
            for place, group in groupby(runs, key=lambda one: one.place[:2])
            for row in means(list(group), remarks.get(place, Remarks()))
        )
        return type(self)(rows=rows, runs=tuple(runs))


def means(runs: Sequence[Run], remarks: Remarks) -> list[Row]:
    """A row for each metric, all of them in [0, 1]."""
    return [_mean(metric, runs, remarks) for metric in runs[0].scores]


def _mean(metric: str, runs: Sequence[Run], remarks: Remarks) -> Row:
    values = [one.scores[metric] for one in runs]
    mean, half = fmean(values), half_width(metric, runs)
    return Row(
        system=runs[0].system,
        data=runs[0].data,
        metric=metric,
        value=float(f"{mean:.4g}"),
        low=round(max(mean - half, 0.0), DIGITS),
        high=round(min(mean + half, 1.0), DIGITS),
        runs=len(runs),
        minutes=round(fmean(one.minutes for one in runs), 1),
        document=remarks.claims.get(metric),
        tried=tuple(remarks.tried),
    )


def half_width(metric: str, runs: Sequence[Run]) -> float:
    """Half of the 95 % interval of the mean.

    Runs on different test rows differ by these, too; those on the same do not, and neither does a
    single one: then the deviation by bootstrap is added.
    """
    of_tests = 1.96 * fmean(one.deviations[metric] for one in runs)
    if len(runs) == 1:
        return of_tests
    between = stdev(one.scores[metric] for one in runs) / len(runs) ** 0.5
    of_runs = TWO_SIDED_95[min(len(runs) - 1, len(TWO_SIDED_95)) - 1] * between
    return float(np.hypot(of_runs, of_tests)) if runs[0].same_tests else of_runs
