"""What the heads promise."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from schemas.tasks.sections import HeadKind
from trainer.model.heads import HEADS, LabelAttentionHead, MeanHead

EVERY = pytest.mark.parametrize("kind", sorted(HEADS))
HIDDEN, LABELS = 8, 3


def head_and_states(kind: HeadKind, *, rows: int = 2, seq: int = 5) -> tuple[MeanHead, Tensor]:
    """A head with random weights, and hidden states."""
    torch.manual_seed(0)
    return HEADS[kind](HIDDEN, LABELS).eval(), torch.randn(rows, seq, HIDDEN)


@EVERY
@given(seq=st.integers(1, 6), padding=st.integers(0, 9))
@settings(max_examples=25, deadline=None)
def test_padding_changes_nothing(kind: HeadKind, seq: int, padding: int) -> None:
    """Whatever stands in the padded places, a row has the logits that it has without them."""
    head, states = head_and_states(kind, seq=seq)
    filler = torch.full((2, padding, HIDDEN), 7.0)
    mask = torch.cat([torch.ones(2, seq), torch.zeros(2, padding)], dim=1).long()
    padded = head.from_states(torch.cat([states, filler], dim=1), mask)

    torch.testing.assert_close(padded, head.from_states(states, torch.ones(2, seq).long()))


@EVERY
def test_row_without_tokens_has_finite_logits(kind: HeadKind) -> None:
    """A dummy row that fills up a batch gives numbers."""
    head, states = head_and_states(kind)

    assert head.from_states(states, torch.zeros(2, 5).long()).isfinite().all()


@EVERY
def test_rows_do_not_see_each_other(kind: HeadKind) -> None:
    """A row's logits are those that it has alone."""
    head, states = head_and_states(kind)
    mask = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])

    torch.testing.assert_close(
        head.from_states(states, mask)[:1], head.from_states(states[:1], mask[:1])
    )


def test_label_attention_is_the_weighted_sum_of_tokens() -> None:
    """Each label's logit is its own weighting of the tokens, as written, plus that of the mean."""
    head, states = head_and_states("label_attention", rows=1, seq=4)
    assert isinstance(head, LabelAttentionHead)
    mask = torch.ones(1, 4).long()
    mean = head.linear(states.mean(dim=1))
    expected = []
    for label in range(LABELS):
        scores = torch.stack(
            [head.query.weight[label] @ torch.tanh(head.key(token)) for token in states[0]]
        )
        attended = (torch.softmax(scores, dim=0)[:, None] * states[0]).sum(dim=0)  # (hidden,)
        expected.append(mean[0, label] + head.value.weight[label] @ attended)

    torch.testing.assert_close(head.from_states(states, mask)[0], torch.stack(expected))


def test_label_attention_finds_one_token_among_many() -> None:
    """A label learns the one token that gives it away, however long the text around it is."""
    torch.manual_seed(0)
    head = LabelAttentionHead(HIDDEN, 1)
    optimizer = torch.optim.AdamW(head.parameters(), lr=0.05)
    sign = torch.eye(HIDDEN)[0] * 8

    def batch(seq: int) -> tuple[Tensor, Tensor]:
        states = torch.randn(32, seq, HIDDEN)
        has = torch.arange(32) % 2 == 0
        states[has, seq // 2] += sign
        return states, has.float()[:, None]

    for _ in range(150):
        states, labels = batch(20)
        logits = head.from_states(states, torch.ones(states.shape[:2]).long())
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, labels)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
    states, labels = batch(60)
    right = (head.from_states(states, torch.ones(states.shape[:2]).long()) > 0).float() == labels

    assert right.float().mean() > 0.9
