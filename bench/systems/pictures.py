"""Pictures of a space of texts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from schemas.arrays import Float32Array
from trainer.evaluation.pictures import picture_text, save_picture

SHOWN_TEXTS = 80
"""Texts whose similarities are shown."""


def draw_space(vectors: Float32Array, labels: Sequence[str], path: Path) -> None:
    """Draw a map of texts, and the similarities of some of them, in order of their labels.

    vectors: (texts, dimension), of length 1.
    """
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot
    from sklearn.manifold import TSNE

    names = sorted(set(labels))
    points = TSNE(2, random_state=0, init="pca").fit_transform(vectors)
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 5), layout="constrained")
    for number, name in enumerate(names):
        x, y = points[np.array(labels) == name].T
        left.scatter(x, y, s=8, color=f"C{number}", label=picture_text(name))
    left.set(xticks=[], yticks=[], title=f"{len(labels)} texts (t-SNE)")
    left.legend(frameon=False)
    order = np.argsort(np.array(labels[:SHOWN_TEXTS]), kind="stable")
    shown = vectors[:SHOWN_TEXTS][order]
    image = right.imshow(shown @ shown.T, cmap="Blues", vmin=0, vmax=1)
    right.set(xticks=[], yticks=[], title=f"cosine of {SHOWN_TEXTS} texts, by class")
    figure.colorbar(image, ax=right, shrink=0.7)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_picture(figure, path)
    pyplot.close(figure)
