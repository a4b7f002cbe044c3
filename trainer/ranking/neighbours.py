"""Leave-one-out votes of the nearest rows: how well vectors as they are tell labels apart."""

from __future__ import annotations

import numpy as np
from sklearn.neighbors import NearestNeighbors

from schemas.arrays import BoolArray, Float32Array


def decide_by_neighbours(vectors: Float32Array, labels: BoolArray, neighbours: int) -> BoolArray:
    """Labels of each row by the votes of the other rows whose vectors have the highest cosine.

    vectors: (rows, hidden). labels: (rows, labels). neighbours: rows that vote, fewer than there
    are others.
    Where every row has one label, a row gets the one with the most votes, of equal ones that of the
    nearer neighbours; otherwise all that more than half of its neighbours have.
    Returns (rows, labels).

    Source: Cover, Hart (1967), Nearest Neighbor Pattern Classification, IEEE Transactions on
    Information Theory 13(1).
    """
    index = NearestNeighbors(n_neighbors=neighbours, metric="cosine", algorithm="brute")
    nearest = index.fit(vectors).kneighbors(return_distance=False)  # (rows, neighbours)
    votes = labels[nearest].astype(np.float64)  # (rows, neighbours, labels)
    if not has_one_label(labels):
        return np.asarray(votes.sum(axis=1) > neighbours / 2)
    # Below 1 in all, and more for one nearer neighbour than for all that are behind it.
    nearness = 0.5 ** np.arange(1, neighbours + 1)
    chosen = (votes * (1 + nearness[:, None] / 2)).sum(axis=1).argmax(axis=1)
    return np.asarray(chosen[:, None] == np.arange(labels.shape[1]))


def has_one_label(labels: BoolArray) -> bool:
    """True if every row has exactly one label."""
    return bool((labels.sum(axis=1) == 1).all())
