"""CNN-BiLSTM with attention over word vectors, registered as a transformers encoder type.

The baseline for transformer encoders. It trains, exports and scores like any other encoder, because
its output is scaled for the mean over real tokens: with a `mean` head it is the plain architecture.
Importing this module registers the type with `AutoConfig` and `AutoModel`.

Sources:
    Hochreiter, Schmidhuber (1997), Long Short-Term Memory, Neural Computation 9(8).
    Zhou, Sun, Liu, Lau (2015), A C-LSTM Neural Network for Text Classification: convolution first.
    Yang, Yang, Dyer, He, Smola, Hovy (2016), Hierarchical Attention Networks for Document
    Classification, NAACL, eq. 5 to 7.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput


class CnnBilstmConfig(PretrainedConfig):
    """Sizes of a CNN-BiLSTM.

    vocab_size: words, special tokens included. embedding_size: values of a word vector.
    filters: convolution filters of each width in `kernel_sizes`, odd numbers of words.
    hidden_size: values of a hidden state; each direction of the LSTM has half of them.
    dropout: share of the word vectors' and the convolutions' values zeroed while training.
    initializer_range: standard deviation of embeddings that are not loaded.
    """

    model_type = "cnn-bilstm"

    def __init__(
        self,
        vocab_size: int = 1000,
        embedding_size: int = 50,
        filters: int = 64,
        kernel_sizes: Sequence[int] = (3, 5),
        hidden_size: int = 200,
        dropout: float = 0.2,
        initializer_range: float = 0.4,  # about that of GloVe
        **inherited: Any,
    ) -> None:
        if hidden_size % 2:
            raise ValueError(f"hidden_size is {hidden_size}; expected an even number")
        if any(size % 2 == 0 for size in kernel_sizes):
            raise ValueError(f"kernel_sizes are {kernel_sizes}; expected odd numbers")
        inherited.setdefault("pad_token_id", 0)
        super().__init__(**inherited)
        self.vocab_size = vocab_size
        self.embedding_size = embedding_size
        self.filters = filters
        self.kernel_sizes = list(kernel_sizes)
        self.hidden_size = hidden_size
        self.num_hidden_layers = 2  # convolution and LSTM
        self.dropout = dropout
        self.initializer_range = initializer_range


class CnnBilstmModel(PreTrainedModel):
    """Word vectors, parallel convolutions of several widths, a BiLSTM, attention.

    Unlike transformers, the exported model has this limit: onnxruntime rounds differently if there
    is a thread for every row of a batch. Scores are bit-identical for all numbers of threads below
    the rows of a batch, and differ by about 1e-6 from those with more threads.
    """

    config_class = CnnBilstmConfig
    base_model_prefix = "cnn_bilstm"
    main_input_name = "input_ids"

    def __init__(self, config: CnnBilstmConfig) -> None:
        super().__init__(config)
        self.embeddings = nn.Embedding(
            config.vocab_size, config.embedding_size, padding_idx=config.pad_token_id
        )
        self.convolutions = nn.ModuleList(
            nn.Conv1d(config.embedding_size, config.filters, size, padding=size // 2)
            for size in config.kernel_sizes
        )
        features, direction = config.filters * len(config.kernel_sizes), config.hidden_size // 2
        # Two forward LSTMs: the backward pass of a bidirectional one would begin with the padding.
        self.forward_lstm = nn.LSTM(features, direction, batch_first=True)
        self.backward_lstm = nn.LSTM(features, direction, batch_first=True)
        self.projection = nn.Linear(config.hidden_size, config.hidden_size)
        self.context = nn.Linear(config.hidden_size, 1, bias=False)
        self.dropout = nn.Dropout(config.dropout)
        self.post_init()  # type: ignore[no-untyped-call]

    def get_input_embeddings(self) -> nn.Embedding:
        """The word vectors, (vocab_size, embedding_size)."""
        return self.embeddings

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the word vectors, as adding tokens does."""
        assert isinstance(value, nn.Embedding)
        self.embeddings = value

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> BaseModelOutput:
        """Hidden states whose mean over the real tokens is their sum weighted by attention.

        input_ids, attention_mask: (rows, seq) int64; the mask is 1 for real tokens, which come
        first in a row. The ids of padding have no effect.
        Returns `last_hidden_state`, (rows, seq, hidden): state times attention weight times the
        row's number of real tokens; zero for padding.
        """
        mask = attention_mask.unsqueeze(-1).to(self.embeddings.weight.dtype)  # (rows, seq, 1)
        lengths = attention_mask.sum(dim=1, keepdim=True)  # (rows, 1)
        vectors = self.dropout(self.embeddings(input_ids)) * mask  # (rows, seq, embedding)
        channels = vectors.transpose(1, 2)
        filtered = torch.cat([torch.relu(layer(channels)) for layer in self.convolutions], dim=1)
        features = self.dropout(filtered.transpose(1, 2))  # (rows, seq, features)
        forward, _ = self.forward_lstm(features)
        backward, _ = self.backward_lstm(reverse(features, lengths))
        states = torch.cat([forward, reverse(backward, lengths)], dim=-1)  # (rows, seq, hidden)
        weights = self._attention(states, attention_mask)  # (rows, seq, 1)
        scale = mask * lengths.unsqueeze(-1)  # cancels the division of the mean
        weighted = cast("torch.FloatTensor", states * weights * scale)
        return BaseModelOutput(last_hidden_state=weighted)

    def _attention(self, states: Tensor, attention_mask: Tensor) -> Tensor:
        """Attention weight of each token, (rows, seq, 1); those of a row's real tokens sum to 1.

        Source: Yang et al. 2016, eq. 5 and 6.
        """
        energies = self.context(torch.tanh(self.projection(states))).float()
        padding = attention_mask.unsqueeze(-1) == 0
        # Not minus infinity, which would divide 0 by 0 in a row without any real token.
        return torch.softmax(energies.masked_fill(padding, -1e9), dim=1)

    def _init_weights(self, module: nn.Module) -> None:
        # Other layers keep torch's initialization, whose ranges follow from the layer's size.
        if isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=self.config.initializer_range)
            if module.padding_idx is not None:
                module.weight.data[module.padding_idx].zero_()


def reverse(states: Tensor, lengths: Tensor) -> Tensor:
    """Reverse the order of the real tokens of each row and leave the padding at the end.

    states: (rows, seq, features). lengths: (rows, 1) int64, real tokens of each row.
    Returns (rows, seq, features). Applied twice, it returns its input.
    """
    positions = torch.arange(states.shape[1], device=states.device).unsqueeze(0)  # (1, seq)
    source = torch.where(positions < lengths, lengths - 1 - positions, positions)  # (rows, seq)
    return torch.gather(states, 1, source.unsqueeze(-1).expand_as(states))


AutoConfig.register(CnnBilstmConfig.model_type, CnnBilstmConfig)
AutoModel.register(CnnBilstmConfig, CnnBilstmModel)
