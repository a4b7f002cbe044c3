"""Pooling: from the vectors of a text's tokens to one, and the head that gives it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torch import Tensor

from schemas.kinds.embedding import Pooling

MASKED = -1e4
"""In place of a padded token's number before a softmax or a maximum: below every other, in half
precision too."""


def mean_pool(hidden_states: Tensor, attention_mask: Tensor) -> Tensor:
    """Average the hidden states of the real tokens.

    hidden_states: (rows, seq, hidden); attention_mask: (rows, seq), 1 for real tokens.
    Returns (rows, hidden); a row without any real token gives zeros.
    """
    mask = attention_mask.unsqueeze(-1).to(hidden_states.dtype)  # (rows, seq, 1)
    return (hidden_states * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1.0)


def max_pool(hidden_states: Tensor, attention_mask: Tensor) -> Tensor:
    """Greatest value of each number over the real tokens; shapes as for `mean_pool`."""
    is_real = attention_mask.unsqueeze(-1) > 0  # (rows, seq, 1)
    filled = torch.where(is_real, hidden_states, torch.full_like(hidden_states, MASKED))
    return filled.amax(dim=1)


def first_token(hidden_states: Tensor, _attention_mask: Tensor) -> Tensor:
    """Vector of the first token, [CLS] in BERT; shapes as for `mean_pool`."""
    return hidden_states[:, 0]


POOLINGS: Mapping[Pooling, Callable[[Tensor, Tensor], Tensor]] = MappingProxyType(
    {"mean": mean_pool, "cls": first_token, "max": max_pool}
)
