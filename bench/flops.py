"""How much of a machine a training step uses."""

from __future__ import annotations

import time

import torch
from torch.utils.flop_counter import FlopCounterMode

from schemas.config import TrainingRun
from trainer.model.encoders import load_encoder
from trainer.model.multitask import MultiTaskModel
from trainer.training.loop import attention_for
from trainer.training.run import prepare_encoder

SIDE = 2048
ROUNDS = 20


def measure_peak(dtype: torch.dtype) -> float:
    """GFLOP/s of one large matrix product on this machine: the best of some rounds."""
    left, right = (torch.randn(SIDE, SIDE).to(dtype) for _ in range(2))
    best = float("inf")
    for _ in range(ROUNDS):
        started = time.perf_counter()
        left @ right
        best = min(best, time.perf_counter() - started)
    return 2 * SIDE**3 / best / 1e9


def training_mflops_a_token(
    config: TrainingRun, task: str, *, labels: int, rows: int, seq: int
) -> float:
    """MFLOP that one token costs forward and backward, counted by torch in a (rows, seq) batch."""
    encoder = load_encoder(config.encoder.source, markers=False, attention=attention_for("cpu"))
    model = MultiTaskModel(encoder.model, {task: labels}, heads={task: config.tasks[task].head})
    prepare_encoder(encoder.model, config.encoder)
    input_ids = torch.randint(1000, 2000, (rows, seq))
    with FlopCounterMode(display=False) as counter:
        model(input_ids, torch.ones_like(input_ids), task).sum().backward()
    return float(counter.get_total_flops() / (rows * seq) / 1e6)
