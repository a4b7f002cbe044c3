"""What comparisons of vectors promise: cosines, kept neighbours, principal components."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors

from schemas.arrays import Float32Array
from schemas.decision.vectors import (
    NEIGHBOURS,
    Agreement,
    cosines,
    principal_components,
    same_answer,
    unit_vectors,
)


def drawn(rows: int, dimension: int = 16, *, seed: int = 0) -> Float32Array:
    """Random vectors."""
    return np.random.default_rng(seed).normal(size=(rows, dimension)).astype(np.float32)


def noisy(vectors: Float32Array, amount: float) -> Float32Array:
    """The same with noise."""
    return (vectors + amount * drawn(*vectors.shape, seed=1)).astype(np.float32)


def test_equal_vectors_agree() -> None:
    """Whatever their length, and also if they are all zero."""
    vectors = np.concatenate([drawn(30), np.zeros((1, 16), np.float32)])
    scores = Agreement.count(vectors[:30], 3 * vectors[:30]).scores()

    assert scores.headline() == pytest.approx({"cosine": 1.0, "neighbours_kept": 1.0})
    assert same_answer(vectors, vectors).all()
    assert np.linalg.norm(unit_vectors(vectors), axis=1) == pytest.approx([1.0] * 30 + [0.0])


def test_kept_neighbours_are_those_that_scikit_learn_finds() -> None:
    """The ten nearest by cosine, a text itself apart."""
    before = drawn(60)
    after = noisy(before, 0.5)
    found = [
        NearestNeighbors(n_neighbors=NEIGHBOURS + 1, metric="cosine")
        .fit(vectors)
        .kneighbors(return_distance=False)[:, :NEIGHBOURS]
        for vectors in (before, after)
    ]
    kept = np.mean(
        [len(set(one) & set(other)) / NEIGHBOURS for one, other in zip(*found, strict=True)]
    )
    scores = Agreement.count(before, after).scores()

    assert 0.3 < kept < 0.99
    assert scores.neighbours_kept == pytest.approx(kept)
    assert scores.cosine == pytest.approx(float(cosines(before, after).mean()))


def test_comparisons_add_up() -> None:
    """Two halves have the cosine of the whole."""
    before = drawn(40)
    after = noisy(before, 0.2)
    halves = [Agreement.count(before[part], after[part]) for part in (slice(20), slice(20, 40))]
    whole = Agreement.count(before, after)

    assert (halves[0] + halves[1]).scores().cosine == pytest.approx(whole.scores().cosine)
    assert (halves[0] + halves[1]).rows == whole.rows == 40


@pytest.mark.parametrize("rows", [0, 1, 2])
def test_few_texts_can_be_compared(rows: int) -> None:
    """Without another text there is no neighbour to lose."""
    scores = Agreement.count(drawn(rows), drawn(rows)).scores()

    assert scores.neighbours_kept == 1.0
    assert scores.cosine == pytest.approx(float(rows > 0))


def test_a_tie_between_neighbours_decides_nothing() -> None:
    """Of many equal texts any ten are the nearest."""
    before = np.tile(drawn(1), (30, 1))
    after = noisy(before, 1e-3)

    assert Agreement.count(before, after).scores().neighbours_kept == 1.0


def test_another_direction_is_another_answer() -> None:
    """From a cosine of 0.99 on, vectors count as the same."""
    first = np.array([[1.0, 0.0]] * 3, np.float32)
    angles = np.arccos([0.995, 0.985, -1.0])
    second = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)

    assert same_answer(first, second).tolist() == [True, False, False]


def test_components_are_those_of_scikit_learn() -> None:
    """But for the sign, which is that of the largest number."""
    vectors = (drawn(50, 8) * np.arange(1, 9)).astype(np.float32)
    expected = PCA(n_components=3).fit(vectors).components_
    components = principal_components(vectors, 3)

    assert np.abs(components) == pytest.approx(np.abs(expected), abs=1e-4)
    assert (components[np.arange(3), np.abs(components).argmax(axis=1)] > 0).all()
