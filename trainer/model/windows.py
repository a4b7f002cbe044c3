"""Outputs of texts that are read in windows, as `OutputSpec.of_text` has them, with gradients."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from schemas.kinds.base import OutputSpec
from schemas.text.tokens import TokenizedText


def outputs_of_texts(outputs: Tensor, texts: Sequence[TokenizedText], output: OutputSpec) -> Tensor:
    """Pool the outputs of windows.

    outputs: (pieces, ...) of what the model reads at once, text by text.
    Returns (texts, ...); those of tokens are padded to the longest text.
    """
    if all(text.windows is None for text in texts):
        return outputs
    sizes = [len(text.pieces) for text in texts]
    by_text = torch.split(outputs.float(), sizes)
    of_texts = [_of_text(own, text, output) for own, text in zip(by_text, texts, strict=True)]
    return pad_sequence(of_texts, batch_first=True) if output.per_token else torch.stack(of_texts)


def _of_text(outputs: Tensor, text: TokenizedText, output: OutputSpec) -> Tensor:
    """(pieces, ...) outputs of one text to one."""
    if text.windows is None:
        return outputs[0]
    if output.per_token:
        return torch.cat(
            [of_window[own] for of_window, own in zip(outputs, text.windows.own, strict=True)]
        )
    if output.pooling == "mean":
        return outputs.mean(dim=0)
    if output.pooling == "max":
        return outputs.amax(dim=0)
    return torch.logsumexp(outputs, dim=0) - math.log(len(outputs))
