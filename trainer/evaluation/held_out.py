"""Scores on held-out rows while training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor

from schemas.arrays import Float32Array
from schemas.kinds.base import OutputSpec
from schemas.text.tokens import TokenizedText, pad
from trainer.data.batches import TOKENS_PER_PASS, padded_length
from trainer.data.task_data import TokenizedRows
from trainer.model.multitask import TaskPath

ROWS_PER_BATCH = 32
"""Where a pass is not limited by its tokens."""


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


def validation_batches(
    lengths: Sequence[int], device_type: str, *, max_tokens: int
) -> Iterator[list[int]]:
    """Rows in order of length, as many at a time as a pass of training takes.

    lengths: tokens of each row. max_tokens: longest text that the model takes.
    """
    limit = TOKENS_PER_PASS.get(device_type, ROWS_PER_BATCH * max_tokens)
    batch: list[int] = []
    for row in np.argsort(np.asarray(lengths), kind="stable").tolist():
        # Of rows in this order the last is the longest.
        if batch and (len(batch) + 1) * padded_length(lengths[row], max_tokens) > limit:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def predict(
    path: TaskPath,
    output: OutputSpec,
    rows: TokenizedRows,
    *,
    pad_id: int,
    max_tokens: int,
    bf16: bool,
    accelerator: Accelerator,
) -> list[Float32Array]:
    """Output of every row, float32, without that of its padding, in the order of `rows`.

    path: in training mode afterwards. output: of its task. Processes share the batches, and each
    gets all the outputs.
    """
    pieces = [text.pieces for text in rows.texts]
    every = [piece for of_text in pieces for piece in of_text]
    lengths = [len(piece.ids) for piece in every]
    edges = np.cumsum([0, *(output.size(length) for length in lengths)])
    flat = torch.zeros(int(edges[-1]), dtype=torch.float32)
    device = accelerator.device
    batches = list(validation_batches(lengths, device.type, max_tokens=max_tokens))
    path.eval()
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=bf16):
        for batch in batches[accelerator.process_index :: accelerator.num_processes]:
            texts = [every[row] for row in batch]
            input_ids, attention_mask = to_batch(texts, pad_id, device, max_tokens=max_tokens)
            outputs = path(input_ids, attention_mask).float().cpu()
            for of_row, row in zip(outputs, batch, strict=True):
                kept = of_row[: lengths[row]] if output.per_token else of_row
                flat[edges[row] : edges[row + 1]] = kept.ravel()
    path.train()
    everyones = accelerator.reduce(flat.to(device), "sum").cpu().numpy()
    outputs = iter(
        everyones[edges[row] : edges[row + 1]].reshape(output.shape(length))
        for row, length in enumerate(lengths)
    )
    return [
        output.of_text(list(islice(outputs, len(of_text))), text)
        for text, of_text in zip(rows.texts, pieces, strict=True)
    ]
