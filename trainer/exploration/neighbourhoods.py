"""Texts as points: a map of them, and texts that are there several times."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from sklearn.neighbors import NearestNeighbors

from schemas.arrays import Float32Array
from trainer.evaluation.pictures import picture_text
from trainer.exploration.corpus import NO_VALUE, Corpus
from trainer.exploration.section import Picture, Section, Table

MOST_COLORS = 10
ALMOST_ALIKE = 0.97
"""Cosine of vectors above which texts are called near duplicates."""
SHOWN_PAIRS = 15
SHOWN_CHARACTERS = 120
COMPONENTS = 50


def text_map(corpus: Corpus, rows: Sequence[int], vectors: Float32Array, seed: int = 0) -> Section:
    """Texts in two dimensions. rows: of the corpus, whose vectors these are.

    Source: van der Maaten, Hinton (2008), Visualizing Data using t-SNE, JMLR 9.
    """
    reduced = PCA(min(COMPONENTS, *vectors.shape), random_state=seed).fit_transform(vectors)
    perplexity = max(1.0, min(30.0, (len(rows) - 1) / 3))
    points = TSNE(2, perplexity=perplexity, random_state=seed, init="random").fit_transform(reduced)
    pictures = []
    if corpus.domains is not None:
        names = [corpus.domains[row] for row in rows]
        pictures.append(_scatter(points, names, corpus.domains_by_frequency(MOST_COLORS), "domain"))
    if corpus.label_counts:
        frequent = corpus.labels_by_frequency(MOST_COLORS)
        firsts = [
            next((one for one in corpus.labels[row] or () if one in frequent), NO_VALUE)
            for row in rows
        ]
        pictures.append(_scatter(points, firsts, frequent, "label"))
    if not pictures:
        pictures.append(_scatter(points, [NO_VALUE] * len(rows), [], "text"))
    return Section(
        "Map",
        f"{len(rows):,} texts as the encoder sees them before training (t-SNE of its mean "
        "vectors): texts that are close are alike to it. Labels that form no groups here are those "
        "that training has most to do for.",
        pictures=pictures,
    )


def _scatter(points: np.ndarray, names: Sequence[str], shown: Sequence[str], what: str) -> Picture:
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 6), layout="constrained")
    of_points = np.array(names)
    others = ~np.isin(of_points, list(shown))
    if others.any():
        x, y = points[others].T
        axes.scatter(x, y, s=8, color="0.75", label="others" if shown else None)
    for number, name in enumerate(shown):
        chosen = points[of_points == name]
        if len(chosen):
            x, y = chosen.T
            axes.scatter(x, y, s=10, color=f"C{number}", label=picture_text(name), alpha=0.8)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    if shown:
        figure.legend(frameon=False, fontsize="small", title=what, loc="outside right upper")
    return Picture.of(figure, f"Texts by {what}")


def duplicates(corpus: Corpus, rows: Sequence[int], vectors: Float32Array) -> Section:
    """Texts that are there twice, letter by letter or almost, and in which parts.

    rows: those that near duplicates are looked for among, whose vectors these are.
    """
    same: dict[str, list[int]] = defaultdict(list)
    for row, text in enumerate(corpus.texts):
        same[" ".join(text.split()).casefold()].append(row)
    groups = [group for group in same.values() if len(group) > 1]
    parts = corpus.parts
    across = [group for group in groups if parts and len({parts[row] for row in group}) > 1]
    pairs = _near_pairs(corpus, rows, vectors)
    near_across = [pair for pair in pairs if parts and parts[pair[1]] != parts[pair[2]]]
    where = (
        f" {len(across):,} of these texts are in several parts, and so are {len(near_across):,} of "
        "the pairs: a model that is tested on what it was trained on looks better than it is."
        if parts
        else ""
    )
    return Section(
        "Duplicates",
        f"{len(groups):,} texts are there more than once ({sum(map(len, groups)):,} rows), "
        f"spaces and capitals aside. Among {len(rows):,} rows {len(pairs):,} pairs of other texts "
        f"are almost alike (cosine of {ALMOST_ALIKE} or more).{where}",
        [
            Table(
                ["text", "what", "rows", "parts"],
                [
                    *(_cells(corpus, group, "same") for group in (across or groups)[:SHOWN_PAIRS]),
                    *(
                        _cells(corpus, pair[1:], f"alike, {pair[0]:.3f}")
                        for pair in (near_across or pairs)[:SHOWN_PAIRS]
                    ),
                ],
            )
        ],
    )


def _near_pairs(
    corpus: Corpus, rows: Sequence[int], vectors: Float32Array
) -> list[tuple[float, int, int]]:
    """Cosine and rows of pairs of different texts that are almost alike, the nearest first."""
    if len(rows) < 2:
        return []
    index = NearestNeighbors(metric="cosine", algorithm="brute", radius=1 - ALMOST_ALIKE)
    distances, places = index.fit(vectors).radius_neighbors()
    pairs = [
        (1 - float(distance), rows[one], rows[other])
        for one in range(len(rows))
        for distance, other in zip(distances[one], places[one], strict=True)
        if one < other and corpus.texts[rows[one]] != corpus.texts[rows[other]]
    ]
    return sorted(pairs, reverse=True)


def _cells(corpus: Corpus, rows: Sequence[int], what: str) -> list[str]:
    text = " ".join(corpus.texts[rows[0]].split())
    shown = text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 1] + "…"
    numbers = ", ".join(f"{row:,}" for row in rows[:4]) + (" …" if len(rows) > 4 else "")
    of_rows = sorted({corpus.parts[row] for row in rows}) if corpus.parts else []
    return [shown, what, numbers, ", ".join(of_rows)]
