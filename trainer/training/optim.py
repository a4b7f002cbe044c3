"""Optimizer and learning-rate schedule."""

from __future__ import annotations

import torch
from torch import nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR
from transformers import get_linear_schedule_with_warmup

from schemas.config.models import TrainConfig


def make_optimizer(model: nn.Module, train: TrainConfig) -> AdamW:
    """AdamW (Loshchilov and Hutter, 2019) with weight decay on all but biases and norms.

    Heads learn at `head_rate` times the rate of the encoder; frozen parameters are left out.
    """
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            # Biases and norm weights are vectors; weights that mix features are matrices.
            key = (name.startswith("heads."), parameter.ndim >= 2)
            groups.setdefault(key, []).append(parameter)
    return AdamW(
        [
            {
                "params": parameters,
                "lr": train.learning_rate * (train.head_rate if head else 1.0),
                "weight_decay": train.weight_decay if matrix else 0.0,
            }
            for (head, matrix), parameters in groups.items()
        ],
        fused=True,
    )


def make_schedule(optimizer: AdamW, train: TrainConfig, *, steps: int) -> LambdaLR:
    """Linear warm-up over `warmup_share` of `steps`, then linear decay to zero."""
    warmup_steps = round(steps * train.warmup_share)
    schedule: LambdaLR = get_linear_schedule_with_warmup(optimizer, warmup_steps, steps)
    return schedule


def use_bf16(train: TrainConfig, device: torch.device) -> bool:
    """True if matmuls run in bf16.

    `auto` uses bf16 if the device has instructions for it; without, bf16 is slower than fp32.
    """
    if train.precision != "auto":
        return train.precision == "bf16"
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
