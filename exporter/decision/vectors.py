"""Vectors of held-out texts: how similar they are to each other, in numbers and as a picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from schemas.arrays import Float32Array
from schemas.decision.vectors import (
    MAX_COMPARED,
    principal_components,
    similarities,
    unit_vectors,
)
from schemas.kinds.embedding import EmbeddingEvidence
from trainer.evaluation.pictures import picture_text, save_picture

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
BINS = 40
MARGINS = {"left": 0.06, "right": 0.985, "top": 0.84, "bottom": 0.1, "wspace": 0.14}
"""Of the figure, in its width and height."""


def similarity_evidence(vectors: Float32Array) -> EmbeddingEvidence:
    """How similar texts are; of the first `MAX_COMPARED` of (rows, dimension) vectors."""
    any_two, nearest = _cosines(vectors)
    return EmbeddingEvidence(any_two=_quantiles(any_two), nearest=_quantiles(nearest))


def map_path(folder: Path, task: str) -> Path:
    """The map of a task's held-out texts inside a bundle folder."""
    return folder / f"map-{task}.png"


def draw_map(path: Path, task: str, vectors: Float32Array) -> None:
    """Draw texts by the first two principal components of their vectors, and their cosines.

    vectors: (rows, dimension) float32.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.6))
    FigureCanvasAgg(figure)
    places, cosines = figure.subplots(1, 2, gridspec_kw=MARGINS)
    unit = unit_vectors(vectors)
    centred = unit - unit.mean(axis=0)
    axes = principal_components(unit, min(2, unit.shape[1]))
    on_map = np.pad(centred @ axes.T, ((0, 0), (0, 2 - len(axes))))  # (rows, 2)
    total = float(np.square(centred).sum()) or 1.0
    shares = np.square(on_map).sum(axis=0) / total
    places.plot(on_map[:, 0], on_map[:, 1], "o", color="C0", markersize=4, alpha=0.4)
    places.set(
        title="Map: first two principal components",
        xlabel=f"{shares[0]:.0%} of the variance",
        ylabel=f"{shares[1]:.0%} of the variance",
    )
    any_two, nearest = _cosines(vectors)
    edges = np.linspace(-1, 1, 2 * BINS + 1)
    for name, values, color in (("any two texts", any_two, "0.7"), ("nearest text", nearest, "C0")):
        if len(values):
            weights = np.full(len(values), 1 / len(values))
            cosines.hist(
                values, edges.tolist(), weights=weights, color=color, alpha=0.8, label=name
            )
    lowest = float(any_two.min()) if len(any_two) else 0.0
    cosines.set(title="Cosine of", xlabel="cosine", ylabel="share", xlim=(min(lowest, 0.0), 1.02))
    if len(any_two):
        cosines.legend(frameon=False, fontsize="small")
    for grid in (places, cosines):
        grid.grid(alpha=0.3)
        grid.set_axisbelow(True)
    rows, dimension = vectors.shape
    figure.suptitle(f"{picture_text(task)}: {rows:,} held-out texts, {dimension} numbers each")
    save_picture(figure, path)


def _cosines(vectors: Float32Array) -> tuple[Float32Array, Float32Array]:
    """Cosine of every two texts, and of each text and the one nearest to it."""
    matrix = similarities(vectors[:MAX_COMPARED])
    if len(matrix) < 2:
        nothing = np.zeros(0, np.float32)
        return nothing, nothing
    return matrix[np.triu_indices(len(matrix), k=1)], matrix.max(axis=1)


def _quantiles(cosines: Float32Array) -> tuple[float, ...]:
    if not len(cosines):
        return ()
    return tuple(round(float(one), 6) for one in np.quantile(cosines, QUANTILES))
