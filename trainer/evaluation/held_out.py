"""Scores on held-out rows while training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from schemas.arrays import BoolArray, Float32Array
from schemas.decision.decide import Calibration, calibrate, decide
from schemas.decision.metrics import Hits, Scores
from schemas.decision.thresholds import best_threshold
from schemas.text.tokens import TokenizedText, pad
from trainer.data.batches import padded_length
from trainer.data.dataset import TokenizedRows

ROWS_PER_BATCH = 32


def to_batch(
    texts: Sequence[TokenizedText], pad_id: int, device: torch.device, *, max_tokens: int
) -> tuple[Tensor, Tensor]:
    """Pad token ids to one of few lengths: `input_ids` and `attention_mask`, (rows, seq) int64.

    max_tokens: longest text that the model takes.
    """
    seq = padded_length(max(len(text.ids) for text in texts), max_tokens)
    arrays = pad([text.ids for text in texts], rows=len(texts), seq=seq, pad_id=pad_id)
    input_ids, attention_mask = (torch.from_numpy(array).to(device) for array in arrays)
    return input_ids, attention_mask


def validation_batches(rows: TokenizedRows) -> Iterator[list[int]]:
    """Rows in order of length, a batch at a time."""
    order = np.argsort(np.asarray(rows.lengths), kind="stable").tolist()
    for first in range(0, len(order), ROWS_PER_BATCH):
        yield order[first : first + ROWS_PER_BATCH]


def predict(
    model: nn.Module,
    task: str,
    rows: TokenizedRows,
    *,
    pad_id: int,
    max_tokens: int,
    bf16: bool,
    accelerator: Accelerator,
) -> Float32Array:
    """Logits of every row, (rows, labels) float32, in the order of `rows`.

    model: a MultiTaskModel; it is in training mode afterwards. Processes share the batches, and
    each gets all the logits.
    """
    logits = torch.zeros(rows.labels.shape, dtype=torch.float32)
    device = accelerator.device
    batches = list(validation_batches(rows))
    model.eval()
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=bf16):
        for batch in batches[accelerator.process_index :: accelerator.num_processes]:
            texts = [rows.texts[row] for row in batch]
            input_ids, attention_mask = to_batch(texts, pad_id, device, max_tokens=max_tokens)
            logits[batch] = model(input_ids, attention_mask, task).float().cpu()
    model.train()
    everyones: Float32Array = accelerator.reduce(logits.to(device), "sum").cpu().numpy()
    return everyones


def score(logits: Float32Array, gold: BoolArray) -> Scores:
    """Scores at the one threshold that suits these rows best.

    logits, gold: (rows, labels).
    """
    probabilities = calibrate(logits, Calibration.none(gold.shape[1]))
    threshold: npt.NDArray[np.float32] = np.full(
        gold.shape[1], best_threshold(probabilities, gold), dtype=np.float32
    )
    return Hits.count(gold, decide(probabilities, threshold)).scores()


def metric_value(scores: Scores, metric: Literal["micro_f1", "macro_f1", "mean_f1"]) -> float:
    """The number that picks the best epoch."""
    if metric == "mean_f1":
        return (scores.micro_f1 + scores.macro_f1) / 2
    return scores.micro_f1 if metric == "micro_f1" else scores.macro_f1
