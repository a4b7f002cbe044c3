"""What an encoder makes of the names of labels: where a head starts from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from schemas.errors import ConfigError, nearest
from schemas.text.tokens import pad
from trainer.model.encoders import LoadedEncoder
from trainer.model.pooling import mean_pool

LONGEST_NAME = 64
"""Tokens read of a name."""


def label_words(task: str, labels: Sequence[str], given: Mapping[str, str]) -> list[str]:
    """Words for every label: those that are given, else its name with `-` and `_` as spaces.

    Raises ConfigError for words that are given for something that is no label of the task.
    """
    for label in given:
        if label not in labels:
            close = nearest(label, labels)
            raise ConfigError(
                f"tasks.{task}.label_names: {label!r} is no label of the data",
                hint=f"did you mean {close!r}?" if close else None,
            )
    return [given.get(label, label.replace("-", " ").replace("_", " ")) for label in labels]


@torch.no_grad()
def name_vectors(encoder: LoadedEncoder, names: Sequence[str]) -> Tensor:
    """Mean hidden state of each name's tokens, special tokens left out; (names, hidden)."""
    most = min(LONGEST_NAME, encoder.max_tokens or LONGEST_NAME)
    encodings = encoder.tokenizer.encode_batch(list(names))
    ids = [np.array(encoding.ids[:most], np.int32) for encoding in encodings]
    special = [np.array(encoding.special_tokens_mask[:most], np.int32) for encoding in encodings]
    seq = max(map(len, ids))
    input_ids, attention_mask = pad(ids, rows=len(ids), seq=seq, pad_id=encoder.pad_id)
    left_out, _ = pad(special, rows=len(ids), seq=seq, pad_id=1)
    was_training = encoder.model.training
    encoder.model.eval()
    hidden_states = encoder.model(
        input_ids=torch.from_numpy(input_ids), attention_mask=torch.from_numpy(attention_mask)
    ).last_hidden_state  # (names, seq, hidden)
    encoder.model.train(was_training)
    return mean_pool(hidden_states, torch.from_numpy(1 - left_out))
