"""Peak speed of this machine and the FLOPs of a model, for the share of the peak that is used."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from schemas.bundle.metadata import ArtefactMetadata
from schemas.config.models import TrainingRun
from trainer.kinds import TRAINER_KINDS
from trainer.kinds.base import HeadShape
from trainer.model.encoders import load_encoder
from trainer.model.heads import make_heads
from trainer.model.multitask import MultiTaskModel
from trainer.training.loop import attention_for
from trainer.training.model import prepare_encoder

MATRIX_SIZE = 2048
ROUNDS = 20


def measure_peak(dtype: torch.dtype) -> float:
    """GFLOP/s of a large matmul on this machine: the best of several rounds."""
    left, right = (torch.randn(MATRIX_SIZE, MATRIX_SIZE).to(dtype) for _ in range(2))
    best_s = float("inf")
    for _ in range(ROUNDS):
        started = time.perf_counter()
        left @ right
        best_s = min(best_s, time.perf_counter() - started)
    return 2 * MATRIX_SIZE**3 / best_s / 1e9


def forward_mflops_per_token(metadata: ArtefactMetadata, lengths: Sequence[int]) -> float:
    """Mean MFLOP of a token in a forward pass over texts of these lengths, without padding.

    Counted by torch at two lengths: the cost of a text has a linear and a quadratic part.
    """
    encoder = load_encoder(metadata.encoder.source, markers=False, attention="eager")
    task = metadata.task
    labels = {task: len(metadata.labels)}
    heads = make_heads(encoder.model, labels, heads={task: "label_attention"})
    model = MultiTaskModel(encoder.model, heads).eval()
    short, long = 64, 256
    costs = []
    for seq in (short, long):
        input_ids = torch.randint(1000, 2000, (1, seq))
        with FlopCounterMode(display=False) as counter, torch.inference_mode():
            model(input_ids, torch.ones_like(input_ids), (task,))
        costs.append(counter.get_total_flops())
    quadratic = (costs[1] / long - costs[0] / short) / (long - short)
    linear = costs[0] / short - quadratic * short
    tokens = np.asarray(lengths, dtype=np.float64)
    return float((linear * tokens + quadratic * tokens**2).sum() / tokens.sum() / 1e6)


def training_mflops_per_token(
    config: TrainingRun, task: str, *, labels: int, rows: int, seq: int
) -> float:
    """MFLOP of a token in a forward and backward pass over a (rows, seq) batch."""
    encoder = load_encoder(config.encoder.source, markers=False, attention=attention_for("cpu"))
    about = config.tasks[task]
    hidden = encoder.model.config.hidden_size
    kind = TRAINER_KINDS[about.kind]
    head = kind.head(about, HeadShape(hidden, labels, config.train.dropout))
    model = MultiTaskModel(encoder.model, {task: head})
    prepare_encoder(encoder.model, config.encoder)
    input_ids = torch.randint(1000, 2000, (rows, seq))
    with FlopCounterMode(display=False) as counter:
        model(input_ids, torch.ones_like(input_ids), (task,))[0].sum().backward()
    return float(counter.get_total_flops() / (rows * seq) / 1e6)
