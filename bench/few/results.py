"""`bench/results/few.json`: every draw, and their means."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from itertools import groupby
from statistics import fmean
from typing import Literal, Self, get_args

import numpy as np

from bench.results_file import Record, ResultsFile

MethodName = Literal["tfidf-svm", "frozen-logreg", "setfit", "finetune", "default"]
METHOD_NAMES: tuple[MethodName, ...] = get_args(MethodName)


class Draw(Record):
    """A method trained on one draw.

    scores: by metric, in [0, 1]. deviations: how far each would move with other test rows, by
    bootstrap. seconds: of training, all that a user waits for before texts can be scored.
    """

    data: str
    rows: int
    method: MethodName
    draw: int
    scores: dict[str, float]
    deviations: dict[str, float]
    seconds: float

    @property
    def key(self) -> tuple[str, int, str, int]:
        """What is measured once."""
        return self.data, self.rows, self.method, self.draw


class Row(Record):
    """Mean of the draws of a method, with a 95 % interval for other draws and other test rows."""

    data: str
    rows: int
    method: MethodName
    metric: str
    mean: float
    low: float
    high: float
    draws: int
    seconds: float


class Results(ResultsFile):
    """The file."""

    rows: tuple[Row, ...] = ()
    draws: tuple[Draw, ...] = ()

    def with_draw(self, draw: Draw) -> Self:
        """Add a draw, or replace it, and take the means again."""
        others = [other for other in self.draws if other.key != draw.key]
        return self.of_draws([*others, draw])

    def without(self, methods: set[str], sets: set[str]) -> Self:
        """Forget draws of these methods on these sets."""
        return self.of_draws(
            [one for one in self.draws if not (one.method in methods and one.data in sets)]
        )

    @classmethod
    def of_draws(cls, draws: list[Draw]) -> Self:
        """Draws with their means."""
        ordered = sorted(draws, key=lambda draw: draw.key)
        return cls(rows=tuple(_means(ordered)), draws=tuple(ordered))


def _means(ordered: list[Draw]) -> Iterator[Row]:
    spread = _spread_of_draws(ordered)
    for (data, rows, _), group in groupby(ordered, key=lambda draw: draw.key[:3]):
        draws = list(group)
        for metric in draws[0].scores:
            mean = fmean(draw.scores[metric] for draw in draws)
            of_tests = fmean(draw.deviations[metric] for draw in draws)
            between = spread[data, rows, metric] / len(draws) ** 0.5
            distance = 1.96 * float(np.hypot(between, of_tests))
            yield Row(
                data=data,
                rows=rows,
                method=draws[0].method,
                metric=metric,
                mean=round(mean, 4),
                low=round(mean - distance, 4),
                high=round(mean + distance, 4),
                draws=len(draws),
                seconds=round(fmean(draw.seconds for draw in draws), 1),
            )


def _spread_of_draws(draws: list[Draw]) -> dict[tuple[str, int, str], float]:
    """Standard deviation of a score between draws of so many rows of a set, over all methods.

    Each method has a mean of its own; two draws say too little of a deviation of their own.
    """
    squares: dict[tuple[str, int, str], float] = defaultdict(float)
    degrees: dict[tuple[str, int, str], int] = defaultdict(int)
    for (data, rows, _), group in groupby(draws, key=lambda draw: draw.key[:3]):
        of_method = list(group)
        for metric in of_method[0].scores:
            scores = np.array([draw.scores[metric] for draw in of_method])
            squares[data, rows, metric] += float(((scores - scores.mean()) ** 2).sum())
            degrees[data, rows, metric] += len(scores) - 1
    return {key: (total / max(degrees[key], 1)) ** 0.5 for key, total in squares.items()}
