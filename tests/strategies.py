"""Hypothesis strategies: what tests let vary, in one home."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from schemas.decision.decide import Calibration, Knots
from schemas.decision.thresholds import ThresholdRule
from schemas.text.model_text import Article

Floats: TypeAlias = npt.NDArray[np.float32]
Bools: TypeAlias = npt.NDArray[np.bool_]

STEADY = settings(max_examples=80, deadline=None)
"""Enough examples to be adversarial; how long one takes depends on who shares the machine."""

PIECES = (
    "grain",
    "harbour",
    "Ünïcödé",
    "新闻",
    " ",
    "\n",
    ".",
    "[",
    "]",
    "[ENTITY",
    "ENTITY]",
    "[ENTITY]",
    "[/ENTITY]",
    "[SEP]",
    "[PAD]",
    "</s>",
    "\u200b",
    "😀",
)
"""What texts are built of: words, white space, and whole and broken spellings of markers."""


def texts(*, max_pieces: int = 40) -> st.SearchStrategy[str]:
    """Texts of ordinary words and hostile pieces."""
    return st.lists(st.sampled_from(PIECES) | st.text(max_size=5), max_size=max_pieces).map("".join)


def bodies(*, max_pieces: int = 40) -> st.SearchStrategy[str]:
    """Texts that are not blank."""
    return texts(max_pieces=max_pieces).filter(lambda text: bool(text.strip()))


@st.composite
def marked_articles(draw: st.DrawFn) -> Article:
    """Articles with a valid entity span, anywhere and of any length."""
    text = draw(bodies(max_pieces=80))
    start = draw(st.integers(0, len(text) - 1))
    end = draw(st.integers(start + 1, len(text)))
    return Article(text, title=draw(st.none() | texts()), start=start, end=end)


@st.composite
def scored_rows(draw: st.DrawFn, *, max_labels: int = 4) -> tuple[Floats, Bools]:
    """Probabilities with many ties and adjacent floats, and gold labels, both (rows, labels)."""
    shape = (draw(st.integers(1, 12)), draw(st.integers(1, max_labels)))
    grid = [np.float32(step / 8) for step in range(9)]
    adjacent = [np.nextafter(value, np.float32(0.4)) for value in grid]
    values = st.sampled_from([float(value) for value in grid + adjacent])
    anything = st.floats(0.0, 1.0, width=32)
    probabilities = draw(hnp.arrays(np.float32, shape, elements=values | anything))
    return probabilities, draw(hnp.arrays(np.bool_, shape))


@st.composite
def decisions(draw: st.DrawFn) -> tuple[Bools, Bools]:
    """Gold and decided labels of one shape, (rows, labels); rows may be without any."""
    shape = (draw(st.integers(1, 12)), draw(st.integers(1, 5)))
    return draw(hnp.arrays(np.bool_, shape)), draw(hnp.arrays(np.bool_, shape))


def logits(rows: int | None = None, labels: int = 3) -> st.SearchStrategy[Floats]:
    """Logits from -1e4 to 1e4, (rows, labels) float32."""
    elements = st.floats(-1e4, 1e4, width=32) | st.floats(-8, 8, width=32)
    count = st.integers(1, 20) if rows is None else st.just(rows)
    return count.flatmap(lambda n: hnp.arrays(np.float32, (n, labels), elements=elements))


@st.composite
def knots(draw: st.DrawFn) -> Knots:
    """Piecewise linear maps with steep, flat and ordinary pieces, over any range of logits."""
    count = draw(st.integers(2, 6))
    places = st.floats(-1e4, 1e4) | st.floats(-4, 4, width=16)
    logits = draw(st.lists(places, min_size=count, max_size=count, unique=True))
    heights = st.sampled_from([0.0, 0.5, 1.0]) | st.floats(0, 1)
    probabilities = draw(st.lists(heights, min_size=count, max_size=count))
    return Knots(logits=tuple(sorted(logits)), probabilities=tuple(sorted(probabilities)))


@st.composite
def calibrations(draw: st.DrawFn, labels: int = 3) -> Calibration:
    """Calibrations of every method."""
    scale, bias = st.floats(1e-3, 9), st.floats(-9, 9)
    each = [st.tuples(*[values] * labels) for values in (scale, bias)]
    one = [values.map(lambda value: (value,) * labels) for values in (scale, bias)]
    match draw(st.sampled_from(["none", "temperature", "platt", "vector", "isotonic"])):
        case "none":
            return Calibration.none(labels)
        case "temperature":
            return Calibration(method="temperature", scale=draw(one[0]), bias=(0.0,) * labels)
        case "platt":
            return Calibration(method="platt", scale=draw(one[0]), bias=draw(one[1]))
        case "vector":
            return Calibration(method="vector", scale=draw(each[0]), bias=draw(each[1]))
        case _:
            curves = draw(st.tuples(*[st.none() | knots()] * labels))
            return Calibration(
                method="isotonic", scale=draw(one[0]), bias=draw(one[1]), knots=curves
            )


@st.composite
def parents(draw: st.DrawFn, labels: Sequence[str]) -> dict[str, str]:
    """Parents of some of the labels, in exactly two levels; coarse labels may have no fine ones."""
    is_coarse = draw(st.lists(st.booleans(), min_size=len(labels), max_size=len(labels)))
    coarse = [label for label, chosen in zip(labels, is_coarse, strict=True) if chosen]
    if not coarse:
        return {}
    fine = [label for label in labels if label not in coarse and draw(st.booleans())]
    return {label: draw(st.sampled_from(coarse)) for label in fine}


@st.composite
def threshold_rules(draw: st.DrawFn) -> ThresholdRule:
    """Every valid pair of strategy and objective, with numbers that matter to it."""
    strategy = draw(st.sampled_from(["fixed", "global", "per_label", "shrunk"]))
    objectives = ["f1", "precision_floor", "recall_floor", "cost"]
    objective = draw(st.sampled_from(objectives + ["macro_f1"] * (strategy == "global")))
    values: dict[str, object] = {"strategy": strategy}
    if strategy == "fixed":
        return ThresholdRule.model_validate({**values, "fixed": draw(st.floats(0, 1))})
    values |= {"objective": objective, "folds": draw(st.sampled_from([0, 0, 2, 3]))}
    if objective.endswith("floor"):
        values["floor"] = draw(st.sampled_from([0.25, 0.5, 0.75, 0.9, 1.0]))
    if objective == "cost":
        costs = st.sampled_from([0.25, 1.0, 3.0, 20.0])
        values |= {"false_positive_cost": draw(costs), "false_negative_cost": draw(costs)}
    if strategy == "shrunk":
        values["shrinkage_rows"] = draw(st.sampled_from([0.5, 8.0, 100.0]))
    return ThresholdRule.model_validate(values)
