"""Vectors of texts by an encoder as it is, by several poolings in one pass."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor

from schemas.arrays import Float32Array
from schemas.kinds.base import OutputSpec
from schemas.kinds.embedding import Pooling
from schemas.text.model_text import ModelText
from schemas.text.tokens import TextTokenizer
from trainer.data.task_data import TokenizedRows
from trainer.evaluation.held_out import predict
from trainer.model.encoders import load_encoder
from trainer.model.heads import Head
from trainer.model.multitask import TaskPath
from trainer.model.pooling import POOLINGS

COMPARED: tuple[Pooling, ...] = ("cls", "mean")
"""Poolings that encoders are compared by."""


@dataclass(frozen=True)
class PooledVectors:
    """Vectors of texts, (texts, hidden) for each pooling.

    seconds: that the encoder took. parameters: that it has.
    """

    vectors: Mapping[Pooling, Float32Array]
    seconds: float
    parameters: int


class SeveralPoolings(Head):
    """Vectors of each pooling, one behind the other. hidden: width of the encoder."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.width = hidden * len(COMPARED)

    def from_states(self, hidden_states: Tensor, attention_mask: Tensor) -> Tensor:
        """(rows, seq, hidden) and (rows, seq) to (rows, poolings * hidden)."""
        pooled = [POOLINGS[pooling](hidden_states, attention_mask) for pooling in COMPARED]
        return torch.cat(pooled, dim=1)


def pooled_vectors(source: str, texts: Sequence[ModelText], *, max_tokens: int) -> PooledVectors:
    """Run an encoder over texts, in fp32. max_tokens: read of a text, or as many as it can take.

    Raises EncoderError.
    """
    accelerator = Accelerator()
    loaded = load_encoder(source, markers=False)
    most = min(max_tokens, loaded.max_tokens or max_tokens)
    tokenizer = TextTokenizer(loaded.tokenizer, max_tokens=most)
    tokens = list(tokenizer.encode(texts))
    hidden = loaded.model.config.hidden_size
    nothing = np.zeros((len(tokens), 0), np.bool_)
    path = TaskPath(loaded.model, SeveralPoolings(hidden)).to(accelerator.device)
    started = time.perf_counter()
    outputs = predict(
        path,
        OutputSpec("vectors", hidden * len(COMPARED)),
        TokenizedRows(tokens, nothing, nothing, [""] * len(tokens)),
        pad_id=loaded.pad_id,
        max_tokens=most,
        bf16=False,
        accelerator=accelerator,
    )
    seconds = time.perf_counter() - started
    vectors = np.stack(outputs)  # (texts, poolings * hidden)
    parts = np.split(vectors, len(COMPARED), axis=1)
    parameters = sum(weight.numel() for weight in loaded.model.parameters())
    return PooledVectors(dict(zip(COMPARED, parts, strict=True)), seconds, parameters)
