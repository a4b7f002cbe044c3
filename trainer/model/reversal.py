"""Gradients that are turned around, so that an encoder forgets what a head finds."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class _ReverseGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, states: Tensor, weight: float) -> Tensor:
        ctx.weight = weight
        return states.view_as(states)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (gradient,) = gradients
        return -ctx.weight * gradient, None


def reverse_gradient(states: Tensor, weight: float) -> Tensor:
    """The same numbers, whose gradient is turned around and multiplied by `weight`.

    Source: Ganin, Lempitsky (2015), Unsupervised Domain Adaptation by Backpropagation, ICML.
    """
    reversed_states: Tensor = _ReverseGradient.apply(states, weight)  # type: ignore[no-untyped-call]
    return reversed_states
