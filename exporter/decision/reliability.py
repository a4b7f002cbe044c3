"""How far probabilities can be taken at their word: errors in numbers, and the picture of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from schemas.arrays import BoolArray, Float32Array, Float64Array
from schemas.decision.settings import CalibrationQuality
from trainer.evaluation.pictures import picture_text, save_picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes


DIAGRAM_BINS = 10
MARGINS = {
    "left": 0.075,
    "right": 0.985,
    "top": 0.85,
    "bottom": 0.09,
    "wspace": 0.06,
    "hspace": 0.08,
}
"""Of the diagram, in its width and height: finding them by drawing would double its time."""
FEW_PAIRS = 10
"""Pairs in a bin below which a point of the diagram says little, and is drawn faint."""


@dataclass(frozen=True)
class Bins:
    """Probabilities by bin; bins without any are left out. All are (bins,) float64.

    counts: pairs in the bin. predicted: their mean probability. observed: share that is positive.
    """

    counts: Float64Array
    predicted: Float64Array
    observed: Float64Array

    @classmethod
    def of(cls, probabilities: Float32Array, gold: BoolArray, edges: Float64Array) -> Bins:
        """Count pairs between inner `edges`; a probability on an edge belongs above it."""
        place = np.searchsorted(edges, probabilities, side="right")
        counts = np.bincount(place)
        used = counts > 0
        predicted, observed = (
            np.bincount(place, values)[used] / counts[used]
            for values in (probabilities.astype(np.float64), gold)
        )
        return cls(counts[used].astype(np.float64), predicted, observed)

    def error(self) -> float:
        """Expected calibration error, sum of counts / all * |observed - predicted|."""
        if not len(self.counts):
            return 0.0
        distance = np.abs(self.observed - self.predicted)
        return float((self.counts * distance).sum() / self.counts.sum())

    def interval(self, z: float = 1.96) -> tuple[Float64Array, Float64Array]:
        """Bounds of each observed share at `z` standard errors (Wilson, 1927, score interval)."""
        spread = z**2 / self.counts
        center = (self.observed + spread / 2) / (1 + spread)
        width = self.observed * (1 - self.observed) / self.counts + (z / (2 * self.counts)) ** 2
        half = z / (1 + spread) * np.sqrt(width)
        return center - half, center + half


def calibration_error(
    probabilities: Float32Array, gold: BoolArray, bins: int = 15
) -> CalibrationQuality:
    """Expected calibration error and Brier score of each label.

    The bins of the former hold equally many rows (Nixon et al., 2019): with equally wide ones
    (Guo et al., 2017) nearly every row of a rare label would share the lowest. Equal probabilities
    stay in one bin, so that the order of the rows does not matter. With few rows chance alone gives
    an error above 0, and more of it with more bins.
    probabilities, gold: (rows, labels); without rows, both are 0.
    """
    if not len(gold):
        return CalibrationQuality(ece=(0.0,) * gold.shape[1], brier=(0.0,) * gold.shape[1])
    inner = np.linspace(0, 1, bins + 1)[1:-1]
    edges = np.quantile(probabilities.astype(np.float64), inner, axis=0, method="higher")
    ece = tuple(
        Bins.of(probabilities[:, label], gold[:, label], np.unique(edges[:, label])).error()
        for label in range(gold.shape[1])
    )
    brier = np.square(probabilities.astype(np.float64) - gold).mean(axis=0)
    return CalibrationQuality(ece=ece, brier=tuple(brier.tolist()))


def before_and_after(before: Float32Array, after: Float32Array) -> dict[str, Float32Array]:
    """Panels of probabilities that are calibrated."""
    return {"Before calibration": before, "After, cross-validated": after}


def diagram_path(folder: Path, task: str) -> Path:
    """The reliability diagram of a task inside a bundle folder."""
    return folder / f"reliability-{task}.png"


def draw_reliability(
    path: Path,
    task: str,
    panels: Mapping[str, Float32Array],
    gold: BoolArray,
    *,
    of: str = "texts",
) -> None:
    """Draw a reliability diagram over all (row, label) pairs, in panels side by side.

    Points on the diagonal are probabilities that can be taken at their word. Bins are equally wide,
    as is usual in the picture; below, how many pairs each contains.
    panels: (rows, labels) float32 by title. gold: (rows, labels) bool. of: what rows are.
    """
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, grid = pyplot.subplots(
        2,
        len(panels),
        figsize=(4.5 * max(len(panels), 1.3), 5.6),
        sharex=True,
        sharey="row",
        height_ratios=(3, 1),
        gridspec_kw=MARGINS if len(panels) > 1 else {**MARGINS, "left": 0.11, "right": 0.97},
        squeeze=False,
    )
    for column, (title, probabilities) in enumerate(panels.items()):
        quality = calibration_error(probabilities, gold)
        ece, brier = np.mean(quality.ece), np.mean(quality.brier)
        grid[0, column].set_title(
            f"{title}\nmean over labels: ECE {ece:.4f}, Brier {brier:.4f}", fontsize="medium"
        )
        edges = np.linspace(0, 1, DIAGRAM_BINS + 1)
        _draw_shares(grid[0, column], Bins.of(probabilities.ravel(), gold.ravel(), edges[1:-1]))
        _draw_counts(grid[1, column], probabilities, gold, edges)
    grid[0, 0].set(ylabel="share that is positive", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    key = f"bars: 95 % interval\nfaint: fewer than {FEW_PAIRS} pairs"
    grid[0, 0].text(0.0, 0.99, key, fontsize="small", color="0.4", va="top")
    grid[1, 0].set(ylabel="pairs")
    grid[1, 0].set_ylim(bottom=0.7)
    grid[1, 0].legend(frameon=False, fontsize="small", ncols=2)
    labels = f", {gold.shape[1]} labels" if gold.shape[1] > 1 else ""
    figure.suptitle(f"{picture_text(task)}: {len(gold):,} held-out {of}{labels}")
    save_picture(figure, path)
    pyplot.close(figure)


def _draw_shares(axes: Axes, bins: Bins) -> None:
    low, high = bins.interval()
    axes.plot((0, 1), (0, 1), color="0.6", linewidth=1, linestyle="--", zorder=0)
    for place in range(len(bins.counts)):
        alpha = 1.0 if bins.counts[place] >= FEW_PAIRS else 0.35
        at = bins.predicted[place]
        axes.vlines(at, low[place], high[place], color="C0", linewidth=1.5, alpha=alpha)
        axes.plot(at, bins.observed[place], "o", color="C0", markersize=6, alpha=alpha)
    axes.plot(bins.predicted, bins.observed, color="C0", linewidth=1, alpha=0.5)
    axes.grid(alpha=0.3)


def _draw_counts(
    axes: Axes, probabilities: Float32Array, gold: BoolArray, edges: Float64Array
) -> None:
    for name, values, color in (
        ("all", probabilities.ravel(), "0.8"),
        ("positive", probabilities[gold], "C0"),
    ):
        axes.hist(values, bins=edges.tolist(), color=color, label=name, rwidth=0.92)
    axes.set(yscale="log" if len(gold) else "linear", xlabel="probability")
    axes.minorticks_off()
    axes.grid(alpha=0.3, axis="y")
    axes.set_axisbelow(True)
