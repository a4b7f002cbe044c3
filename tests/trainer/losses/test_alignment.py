"""Losses that bring vectors of texts with the same labels together."""

from __future__ import annotations

import math
from typing import get_args

import pytest
import torch
from torch import Tensor

from schemas.kinds.nearest import Alignment, Pairs
from trainer.losses.alignment import NOT_STORED, AlignmentLoss

ALIGNMENTS: tuple[Alignment, ...] = get_args(Alignment)
ROWS, HIDDEN, LABELS = 12, 6, 3
TEMPERATURE = 0.5


def make(
    alignment: Alignment, *, pairs: Pairs = "all", memory: Tensor | None = None
) -> tuple[AlignmentLoss, Tensor]:
    """A loss over twelve rows of three labels, and what it stores."""
    is_of_rows = alignment == "datapoint_memory"
    stored = torch.zeros(ROWS if is_of_rows else LABELS, HIDDEN) if memory is None else memory
    labels = torch.eye(LABELS)[torch.arange(ROWS) % LABELS] if is_of_rows else torch.eye(LABELS)
    loss = AlignmentLoss(
        alignment,
        pairs=pairs,
        temperature=TEMPERATURE,
        memory=lambda: stored,
        stored_labels=labels.bool(),
    )
    return loss, stored


def vectors_of(rows: int, seed: int = 0) -> Tensor:
    """Vectors of length 1 that ask for a gradient."""
    generator = torch.Generator().manual_seed(seed)
    vectors = torch.randn(rows, HIDDEN, generator=generator)
    return torch.nn.functional.normalize(vectors, dim=1).requires_grad_()


def targets_of(numbers: list[int]) -> Tensor:
    """Numbers of rows, each with the label of its number."""
    labels = torch.eye(LABELS, dtype=torch.int64)[torch.tensor(numbers) % LABELS]
    return torch.cat([torch.tensor(numbers)[:, None], labels], dim=1)


def test_batch_is_the_published_formula() -> None:
    """Equation 2 of Khosla et al., written as loops."""
    loss, _ = make("batch")
    numbers = [0, 3, 1, 2, 4, 6]
    vectors = vectors_of(len(numbers)).detach()

    of_rows = []
    for i, number in enumerate(numbers):
        others = [j for j in range(len(numbers)) if j != i]
        positives = [j for j in others if numbers[j] % LABELS == number % LABELS]
        scores = {j: math.exp(float(vectors[i] @ vectors[j]) / TEMPERATURE) for j in others}
        if positives:
            shares = [math.log(scores[p] / sum(scores.values())) for p in positives]
            of_rows.append(-sum(shares) / len(positives))

    expected = sum(of_rows) / len(of_rows)
    assert float(loss(vectors, targets_of(numbers))) == pytest.approx(expected, rel=1e-5)
    assert len(of_rows) < len(numbers)  # row 2 alone has its label, and counts nothing


@pytest.mark.parametrize("pairs", get_args(Pairs))
@pytest.mark.parametrize("alignment", ALIGNMENTS)
def test_steps_bring_labels_together(alignment: Alignment, pairs: Pairs) -> None:
    """After some steps a row is nearer to rows of its label than to any other."""
    torch.manual_seed(0)
    loss, _ = make(alignment, pairs=pairs)
    free = vectors_of(ROWS).detach().requires_grad_()
    optimizer = torch.optim.Adam([free], lr=0.05)
    for _ in range(200):
        optimizer.zero_grad()
        value = loss(torch.nn.functional.normalize(free, dim=1), targets_of(list(range(ROWS))))
        value.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    final = torch.nn.functional.normalize(free.detach(), dim=1)
    same = torch.arange(ROWS)[:, None] % LABELS == torch.arange(ROWS) % LABELS
    cosines = (final @ final.T).fill_diagonal_(math.nan)
    assert cosines[same].nan_to_num(nan=1.0).min() > cosines[~same].max()


def test_memory_follows_training_rows_and_no_others() -> None:
    """Held-out rows ask for no gradient: they are compared, but not stored."""
    for alignment in ALIGNMENTS[1:]:
        loss, stored = make(alignment)
        vectors = vectors_of(4)
        loss(vectors, targets_of([0, 1, 2, 3]))
        before = stored.clone()
        held_out = targets_of([0, 1, 2, 3])
        held_out[:, 0] = NOT_STORED
        value = loss(vectors_of(4, seed=1).detach(), held_out)

        assert before.any()
        assert torch.equal(stored, before)
        assert float(value) > 0


def test_datapoint_memory_has_the_last_vector_of_each_row() -> None:
    """In the place of the row; a row is not compared with itself."""
    loss, stored = make("datapoint_memory")
    first, second = vectors_of(2), vectors_of(2, seed=1)
    loss(first, targets_of([5, 7]))
    loss(second, targets_of([7, 8]))

    assert torch.allclose(stored[5], first[0])
    assert torch.allclose(stored[7], second[0])
    assert torch.allclose(stored[8], second[1])
    alone, _ = make("datapoint_memory", memory=stored * (torch.arange(ROWS) == 7)[:, None])
    assert float(alone(second[:1].detach(), targets_of([7]))) == 0.0


def test_labels_keep_a_moving_mean() -> None:
    """The first rows of a label give its vector, later ones move it by a tenth."""
    loss, stored = make("memory")
    first, second = vectors_of(1), vectors_of(1, seed=1)
    loss(first, targets_of([0]))
    assert torch.allclose(stored[0], first[0])
    loss(second, targets_of([3]))

    moved = 0.9 * first[0] + 0.1 * second[0]
    assert torch.allclose(stored[0], moved / moved.norm())
    assert not stored[1:].any()
