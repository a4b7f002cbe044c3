"""Hidden states of the CNN-BiLSTM, which do not depend on other rows or padding."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel

from trainer.model.cnn_bilstm import CnnBilstmConfig, CnnBilstmModel, reverse
from trainer.model.pooling import mean_pool

LENGTHS = (9, 1, 4, 6)
TOLERANCE = 1e-6


@pytest.fixture
def model() -> CnnBilstmModel:
    """A tiny model with random weights, in evaluation mode."""
    torch.manual_seed(3)
    sizes = CnnBilstmConfig(vocab_size=50, embedding_size=8, filters=6, hidden_size=10)
    model = CnnBilstmModel(sizes)
    model.eval()  # type: ignore[no-untyped-call]
    return model


@pytest.fixture
def input_ids() -> Tensor:
    """Rows of the lengths above, padded, (4, 9)."""
    torch.manual_seed(4)
    return torch.randint(3, 50, (4, 9)) * mask()


def mask() -> Tensor:
    """The attention mask of rows of the lengths above, (4, 9)."""
    return (torch.arange(9) < torch.tensor(LENGTHS).unsqueeze(1)).long()


@torch.inference_mode()
def hidden_states(model: CnnBilstmModel, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
    """Hidden states, (rows, seq, hidden)."""
    found: Tensor = model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
    return found


def test_padding_does_not_change_a_row(model: CnnBilstmModel, input_ids: Tensor) -> None:
    """A row in a batch has the hidden states that it has alone."""
    together = hidden_states(model, input_ids, mask())

    for row, length in enumerate(LENGTHS):
        ids = input_ids[row : row + 1, :length]
        alone = hidden_states(model, ids, torch.ones_like(ids))
        torch.testing.assert_close(together[row, :length], alone[0], rtol=0, atol=TOLERANCE)
        assert not together[row, length:].any()


def test_ids_of_padding_have_no_effect(model: CnnBilstmModel, input_ids: Tensor) -> None:
    """The outputs are bit-identical."""
    filled = torch.where(mask().bool(), input_ids, 7)

    assert torch.equal(
        hidden_states(model, filled, mask()), hidden_states(model, input_ids, mask())
    )


def test_mean_of_hidden_states_is_the_attention_weighted_sum(
    model: CnnBilstmModel, input_ids: Tensor
) -> None:
    """Compared with torch's own bidirectional LSTM on one unpadded row."""
    ids = input_ids[:1]
    lstm = nn.LSTM(12, 5, batch_first=True, bidirectional=True)
    ours = {"": model.forward_lstm, "_reverse": model.backward_lstm}
    lstm.load_state_dict(
        {name + end: value for end, one in ours.items() for name, value in one.state_dict().items()}
    )
    with torch.inference_mode():
        channels = model.embeddings(ids).transpose(1, 2)
        found = torch.cat([layer(channels).relu() for layer in model.convolutions], dim=1)
        states, _ = lstm(found.transpose(1, 2))  # (1, 9, 10)
        weights = model.context(model.projection(states).tanh()).softmax(dim=1)
        expected = (weights * states).sum(dim=1)

    pooled = mean_pool(hidden_states(model, ids, torch.ones_like(ids)), torch.ones_like(ids))
    torch.testing.assert_close(pooled, expected, rtol=0, atol=TOLERANCE)


def test_the_order_of_words_matters(model: CnnBilstmModel, input_ids: Tensor) -> None:
    """A reversed row is another text."""
    ids, full = input_ids[:1], torch.ones_like(input_ids[:1])
    pooled = [mean_pool(hidden_states(model, row, full), full) for row in (ids, ids.flip(1))]

    assert (pooled[0] - pooled[1]).abs().max() > 100 * TOLERANCE


def test_row_without_tokens_gives_zeros(model: CnnBilstmModel, input_ids: Tensor) -> None:
    """An empty row has finite values, and does not affect other rows."""
    nothing = mask()
    nothing[1] = 0
    states = hidden_states(model, input_ids, nothing)

    assert not states[1].any()
    assert torch.equal(states[0], hidden_states(model, input_ids, mask())[0])


def test_every_weight_is_trained(model: CnnBilstmModel, input_ids: Tensor) -> None:
    """A training step changes every parameter, except the padding's vector."""
    states = model.train()(input_ids=input_ids, attention_mask=mask()).last_hidden_state
    states.square().sum().backward()

    assert all(weight.grad is not None and weight.grad.any() for weight in model.parameters())
    gradient = model.embeddings.weight.grad
    assert gradient is not None
    assert not gradient[0].any()


def test_reverse_changes_the_order_of_real_tokens() -> None:
    """The padding stays at the end, and applying it twice restores the input."""
    states = torch.tensor([[1.0, 2, 3, 0], [4, 0, 0, 0]]).unsqueeze(-1)
    lengths = torch.tensor([[3], [1]])
    reversed_states = reverse(states, lengths)

    assert reversed_states.squeeze(-1).tolist() == [[3, 2, 1, 0], [4, 0, 0, 0]]
    assert torch.equal(reverse(reversed_states, lengths), states)


def test_saved_model_is_loaded_by_its_type(
    model: CnnBilstmModel, input_ids: Tensor, tmp_path: Path
) -> None:
    """transformers reads class and sizes from config.json, and the weights are the same."""
    model.save_pretrained(tmp_path)
    again = AutoModel.from_pretrained(tmp_path, use_safetensors=True)

    assert type(AutoConfig.from_pretrained(tmp_path)) is CnnBilstmConfig
    assert torch.equal(
        hidden_states(again, input_ids, mask()), hidden_states(model, input_ids, mask())
    )


@pytest.mark.parametrize(("key", "value"), [("hidden_size", 7), ("kernel_sizes", (2, 3))])
def test_invalid_sizes_are_refused(key: str, value: object) -> None:
    """Directions have equal halves, and convolutions a middle."""
    sizes: dict[str, Any] = {key: value}

    with pytest.raises(ValueError, match=key):
        CnnBilstmConfig(**sizes)
