"""Finding thresholds on held-out rows: by which rule, how sure, and what they are worth."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, model_validator

from schemas.arrays import BoolArray, Float32Array, Float64Array, Int64Array
from schemas.decision import cuts
from schemas.decision.cuts import NOTHING, Counts, Ranking
from schemas.decision.decide import decide

FOLDS = 5
"""Parts that rows are cut into, so that each is decided by a rule fitted to the others."""

_USED_BY: dict[str, tuple[str, tuple[str, ...]]] = {
    "fixed": ("strategy", ("fixed",)),
    "shrinkage_rows": ("strategy", ("shrunk",)),
    "folds": ("strategy", ("global", "per_label", "shrunk")),
    "floor": ("objective", ("precision_floor", "recall_floor")),
    "false_positive_cost": ("objective", ("cost",)),
    "false_negative_cost": ("objective", ("cost",)),
}
"""Fields that mean nothing but with certain values of another."""


class ThresholdRule(BaseModel):
    """How the thresholds of a task are chosen on its held-out rows."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True
    )

    strategy: Literal["fixed", "global", "per_label", "shrunk"] = "shrunk"
    """`fixed`: the value of `fixed` for every label. `global`: one for the task. `per_label`: one a
    label, the task's where no held-out row has it. `shrunk`: one a label, drawn toward the task's
    where few rows have it."""
    objective: Literal["f1", "macro_f1", "precision_floor", "recall_floor", "cost"] = "f1"
    """What is best. `f1`: micro-F1 for the task's threshold, a label's own F1 for its own.
    `macro_f1`: the mean F1 of all labels; for `global` only. `precision_floor`: the highest recall
    with precision of at least `floor`, or the highest precision where none reaches it.
    `recall_floor`: the highest precision with recall of at least `floor`. `cost`: the lowest sum
    of costs. What `shrunk` moves may leave a floor that its own best threshold keeps."""
    fixed: float = Field(default=0.5, ge=0.0, le=1.0)
    """The threshold of strategy `fixed`."""
    floor: float = Field(default=0.9, gt=0.0, le=1.0)
    """Precision or recall that is asked for."""
    false_positive_cost: float = Field(default=1.0, gt=0.0, allow_inf_nan=False)
    """Cost of a label too many."""
    false_negative_cost: float = Field(default=1.0, gt=0.0, allow_inf_nan=False)
    """Cost of a label missed."""
    shrinkage_rows: float = Field(default=8.0, gt=0.0, allow_inf_nan=False)
    """Positive held-out rows at which a label's own threshold and the task's weigh the same."""
    folds: int = Field(default=0, ge=0, le=50)
    """From 2 on: thresholds are chosen that many times, each time without one part of the rows,
    and their median is taken. 0: once, on all rows."""

    @model_validator(mode="after")
    def _settings_have_an_effect(self) -> Self:
        problems = []
        if self.folds == 1:
            problems.append("folds = 1 leaves no rows to choose on: 0, or 2 and more")
        if self.objective == "macro_f1" and self.strategy != "global":
            problems.append(
                f"objective 'macro_f1' is for strategy 'global', not {self.strategy!r}: thresholds "
                "of one label each have the best macro-F1 with objective 'f1'"
            )
        if self.objective != "f1" and self.strategy == "fixed":
            problems.append(
                f"strategy 'fixed' chooses nothing, so objective {self.objective!r} has no effect"
            )
        for name, (needs, values) in _USED_BY.items():
            default = type(self).model_fields[name].default
            if getattr(self, name) != default and getattr(self, needs) not in values:
                problems.append(
                    f"{name} = {getattr(self, name)!r} has no effect with {needs} "
                    f"{getattr(self, needs)!r}: leave it at {default!r}, or choose {needs} "
                    + " or ".join(map(repr, values))
                )
        if problems:
            raise ValueError("; ".join(problems))
        return self


def best_threshold(probabilities: Float32Array, gold: BoolArray) -> float:
    """Threshold with the highest F1 over all given (row, label) pairs.

    probabilities, gold: any equal shape; they are flattened, so that a matrix gives the micro-F1
    threshold and a column that label's own. The threshold lies midway between the lowest accepted
    and the highest refused probability, or at the former where no float32 lies between. Without any
    positive, returns 1.0 or the float32 just above the highest probability, whichever is lower.
    """
    scores = np.asarray(probabilities).ravel()
    if not np.any(gold):
        above = np.nextafter(np.float32(scores.max(initial=0.0)), np.float32(2.0))
        return min(1.0, float(above))
    ranking = Ranking.of_pairs(scores, np.ravel(gold))
    counts = ranking.count(np.ones(len(scores), np.int64))
    return float(ranking.thresholds(counts, cuts.highest_f1(counts))[0])


def find_thresholds(
    probabilities: Float32Array, gold: BoolArray, rule: ThresholdRule | None = None
) -> Float32Array:
    """Choose one threshold a label on held-out rows.

    With n positive rows a label's `shrunk` threshold is, on the logit scale, the mean of its own
    best and the task's best with weights n and `shrinkage_rows`: a label with three positive rows
    cannot overfit, one with three hundred is free. Where no row is positive, nothing is accepted;
    where there is no row, every threshold is `rule.fixed`.

    With `folds` the result is, on the logit scale, the median over the choices. The best place of a
    step function jumps when a row is taken away; the median stays where most choices agree, while
    a mean would follow the one that jumped.

    probabilities, gold: (rows, labels). rule: None is `ThresholdRule()`.
    Returns (labels,) float32 in [0, 1].
    """
    search = _Search(probabilities, gold, rule or ThresholdRule())
    return search.thresholds(np.ones(len(gold), np.int64)).astype(np.float32)


def threshold_intervals(
    probabilities: Float32Array,
    gold: BoolArray,
    rule: ThresholdRule,
    *,
    resamples: int = 200,
    seed: int = 0,
    confidence: float = 0.95,
) -> Float32Array:
    """How far thresholds would move with other held-out rows: percentile bootstrap (Efron, 1979).

    Rows are drawn with replacement `resamples` times and thresholds chosen on each draw.
    probabilities, gold: (rows, labels). confidence: share of the draws inside, between 0 and 1.
    Returns (labels, 2) float32, low and high.
    """
    rows = len(gold)
    search = _Search(probabilities, gold, rule)
    rng = np.random.default_rng(seed)
    drawn = [
        search.thresholds(np.bincount(rng.integers(rows, size=rows), minlength=rows))
        for _ in range(resamples)
    ]
    tail = (1 - confidence) / 2
    return np.quantile(drawn, [tail, 1 - tail], axis=0).T.astype(np.float32)


def held_out_decisions(
    probabilities: Float32Array,
    gold: BoolArray,
    rule: ThresholdRule,
    *,
    folds: int = FOLDS,
    seed: int = 0,
) -> BoolArray:
    """Decide each row with thresholds chosen without it.

    Scores of these decisions are an honest estimate, while scores at thresholds on the rows that
    chose them are too high (Stone, 1974). Slightly pessimistic even, since each choice has fewer
    rows.
    probabilities, gold: (rows, labels). Returns (rows, labels) bool.
    """
    search = _Search(probabilities, gold, rule)
    decided = np.zeros(gold.shape, dtype=np.bool_)
    for inside in each_fold(len(gold), folds=folds, seed=seed):
        thresholds = search.thresholds((~inside).astype(np.int64)).astype(np.float32)
        decided[inside] = decide(probabilities[inside], thresholds)
    return decided


def each_fold(rows: int, *, folds: int = FOLDS, seed: int = 0) -> Iterator[BoolArray]:
    """Cut rows at random into parts of equal size, give or take one.

    Yields (rows,) bool, true inside the fold; as many folds as rows where those are fewer.
    """
    count = max(min(folds, rows), 1)
    fold = np.random.default_rng(seed).permutation(rows) % count
    for number in range(count):
        yield fold == number


class _Search:
    """Held-out rows sorted once, ready to choose thresholds on any part of them."""

    def __init__(self, probabilities: Float32Array, gold: BoolArray, rule: ThresholdRule) -> None:
        self._rule = rule
        self._gold = np.asarray(gold, dtype=np.bool_)
        self._labels = Ranking.of_labels(probabilities, gold)
        self._pairs = Ranking.of_pairs(probabilities, gold)
        ranked = self._labels.probabilities.ravel()
        self._order = np.argsort(-ranked, kind="stable") if rule.objective == "macro_f1" else None

    def thresholds(self, copies: Int64Array) -> Float64Array:
        """Choose on rows that count `copies` times, (rows,) int64. Returns (labels,) float64."""
        rule = self._rule
        parts = [] if rule.folds == 0 else list(each_fold(len(copies), folds=rule.folds))
        choices = [self._choose(kept) for part in parts if (kept := copies * ~part).any()]
        if not choices:
            return self._choose(copies)
        return _sigmoid(np.median([_logit(chosen) for chosen in choices], axis=0))

    def _choose(self, copies: Int64Array) -> Float64Array:
        rule, labels = self._rule, self._gold.shape[1]
        if rule.strategy == "fixed" or not copies.any():
            return np.full(labels, rule.fixed)
        shared = self._best(self._pairs, copies)
        if rule.strategy == "global":
            return np.full(labels, shared)
        positives = copies @ self._gold
        own = np.where(positives, self._best(self._labels, copies), shared)
        if rule.strategy == "per_label":
            return own
        weight = positives / (positives + rule.shrinkage_rows)
        return _sigmoid(weight * _logit(own) + (1 - weight) * _logit(shared))

    def _best(self, ranking: Ranking, copies: Int64Array) -> Float64Array:
        counts = ranking.count(copies)
        places = np.where(counts.positives, self._places(ranking, counts, copies), NOTHING)
        return ranking.thresholds(counts, places)

    def _places(self, ranking: Ranking, counts: Counts, copies: Int64Array) -> Int64Array:
        rule = self._rule
        match rule.objective:
            case "f1":
                return cuts.highest_f1(counts)
            case "macro_f1":
                assert self._order is not None
                return cuts.highest_macro_f1(self._labels.count(copies), counts, self._order)
            case "precision_floor":
                return cuts.highest_recall(counts, precision=rule.floor)
            case "recall_floor":
                return cuts.highest_precision(counts, recall=rule.floor)
            case "cost":
                return cuts.lowest_cost(
                    counts,
                    ranking.highest(counts),
                    false_positive=rule.false_positive_cost,
                    false_negative=rule.false_negative_cost,
                )


def _logit(probabilities: Float64Array) -> Float64Array:
    clipped = np.clip(probabilities, 1e-6, 1 - 1e-6)
    return np.asarray(np.log(clipped / (1 - clipped)))


def _sigmoid(logits: npt.NDArray[np.float64]) -> Float64Array:
    return np.asarray(1 / (1 + np.exp(-logits)))
