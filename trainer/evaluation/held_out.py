"""Scores on held-out rows while training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor
from transformers import PreTrainedModel

from schemas.arrays import Float32Array
from schemas.kinds.base import OutputSpec
from schemas.text.tokens import TokenizedText, pad
from trainer.data.batches import TOKENS_PER_PASS, padded_length
from trainer.data.task_data import TokenizedRows
from trainer.model.heads import Head
from trainer.model.multitask import TaskPath, run_heads

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
    """Output of every row of one task, as `predict_together` gives it for several."""
    (outputs,) = predict_together(
        path.encoder,
        [(path.head, output)],
        rows,
        pad_id=pad_id,
        max_tokens=max_tokens,
        bf16=bf16,
        accelerator=accelerator,
    )
    return outputs


def predict_together(
    encoder: PreTrainedModel,
    heads: Sequence[tuple[Head, OutputSpec]],
    rows: TokenizedRows,
    *,
    pad_id: int,
    max_tokens: int,
    bf16: bool,
    accelerator: Accelerator,
) -> list[list[Float32Array]]:
    """Output of every row by each head, float32, without that of its padding, in order of `rows`.

    encoder, heads: in training mode afterwards; the encoder runs once for all. Processes share the
    batches, and each gets all the outputs.
    """
    pieces = [piece for text in rows.texts for piece in text.pieces]
    lengths = [len(piece.ids) for piece in pieces]
    device = accelerator.device
    by_head = [_Outputs(output, lengths) for _, output in heads]
    modules = [encoder, *(head for head, _ in heads)]
    batches = list(validation_batches(lengths, device.type, max_tokens=max_tokens))
    for module in modules:
        module.eval()
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=bf16):
        for batch in batches[accelerator.process_index :: accelerator.num_processes]:
            texts = [pieces[row] for row in batch]
            inputs = to_batch(texts, pad_id, device, max_tokens=max_tokens)
            outputs = run_heads(
                [head for head, _ in heads], encoder, *inputs, with_neighbours=False
            )
            for of_head, output in zip(by_head, outputs, strict=True):
                of_head.put(batch, output.float().cpu())
    for module in modules:
        module.train()
    return [of_head.by_text(rows.texts, accelerator) for of_head in by_head]


class _Outputs:
    """Outputs of one head for all pieces, in one array, so that processes can add theirs up.

    lengths: tokens of each piece.
    """

    def __init__(self, output: OutputSpec, lengths: Sequence[int]) -> None:
        self._output, self._lengths = output, lengths
        self._edges = np.cumsum([0, *(output.size(length) for length in lengths)])
        self._flat = torch.zeros(int(self._edges[-1]), dtype=torch.float32)

    def put(self, batch: Sequence[int], outputs: Tensor) -> None:
        """Keep the outputs of some pieces, without that of their padding."""
        for of_row, row in zip(outputs, batch, strict=True):
            unpadded = of_row[: self._lengths[row]] if self._output.per_token else of_row
            self._flat[self._edges[row] : self._edges[row + 1]] = unpadded.ravel()

    def by_text(
        self, texts: Sequence[TokenizedText], accelerator: Accelerator
    ) -> list[Float32Array]:
        """Output of each text, from those of its pieces in all processes."""
        reduced = accelerator.reduce(self._flat.to(accelerator.device), "sum").cpu().numpy()
        pieces = iter(
            reduced[first:end].reshape(self._output.shape(length))
            for first, end, length in zip(
                self._edges[:-1], self._edges[1:], self._lengths, strict=True
            )
        )
        return [
            self._output.of_text(list(islice(pieces, len(text.pieces))), text) for text in texts
        ]
