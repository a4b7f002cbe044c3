"""Training on texts in windows: the loss of a text is that of its pooled outputs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import AutoModel

from schemas.kinds.base import OutputSpec
from schemas.text.model_text import ModelText
from schemas.text.tokens import TextTokenizer, TokenizedText
from schemas.text.windows import WindowPooling, WindowSpec
from tests.tiny import sample_rows
from trainer.data import batches
from trainer.evaluation.held_out import to_batch
from trainer.model.heads import HEADS, TokenHead
from trainer.model.multitask import MultiTaskModel
from trainer.model.windows import outputs_of_texts
from trainer.training.gradients import Gradients

LABELS = 3
SPEC = WindowSpec(tokens=16, stride=10, max_windows=8, pooling=None)
TEXTS_OF_MANY_LENGTHS = (20, 60, 200, 1000)


@pytest.fixture
def texts(tokenizer: Tokenizer) -> list[TokenizedText]:
    """Texts of one window and of several."""
    bodies = sample_rows()["text"].to_list()
    cut = [body[:length] for body, length in zip(bodies, TEXTS_OF_MANY_LENGTHS, strict=False)]
    copied = Tokenizer.from_str(tokenizer.to_str())
    encoded = TextTokenizer(copied, max_tokens=16).encode(
        [ModelText(body, cut=False) for body in cut], windows=SPEC
    )
    return list(encoded)


@pytest.fixture
def model(encoder: Path) -> MultiTaskModel:
    """An encoder with a head over texts and one over tokens, both with dropout."""
    torch.manual_seed(0)
    heads = {
        "texts": HEADS["mean"](32, LABELS, dropout=0.5),
        "tokens": TokenHead(32, LABELS, dropout=0.5),
    }
    return MultiTaskModel(AutoModel.from_pretrained(encoder), heads).train()


def gradients_of(
    model: nn.Module, task: str, output: OutputSpec, texts: Sequence[TokenizedText]
) -> tuple[float, list[Tensor]]:
    """Loss of a step, and the gradient of each parameter that has one."""
    model.zero_grad()
    torch.manual_seed(1)
    maker = Gradients(model, Accelerator(), pad_id=0, max_tokens=16, bf16=False)

    def loss_of(outputs: Sequence[Tensor], part: slice) -> list[Tensor]:
        return [one.square().flatten(1).mean(dim=1).sum() for one in outputs]

    loss = maker.add({task: output}, texts, loss_of)
    return float(loss), [one.grad.clone() for one in model.parameters() if one.grad is not None]


@pytest.mark.parametrize(("task", "per_token"), [("texts", False), ("tokens", True)])
def test_a_text_that_fits_no_pass_has_the_same_gradient(
    model: MultiTaskModel,
    texts: list[TokenizedText],
    task: str,
    per_token: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two windows at a time, with the same dropout as one pass over all of them."""
    output = OutputSpec("logits", LABELS, per_token=per_token)
    longest = [texts[-1]]
    monkeypatch.setattr(batches, "TOKENS_PER_PASS", {"cpu": 100_000})
    model.eval()  # dropout masks depend on the shape of a batch
    loss, expected = gradients_of(model, task, output, longest)
    monkeypatch.setattr(batches, "TOKENS_PER_PASS", {"cpu": 2 * 16})
    in_parts, gradients = gradients_of(model, task, output, longest)
    model.train()
    first, again = (gradients_of(model, task, output, longest) for _ in range(2))

    assert len(longest[0].pieces) > 4
    assert in_parts == pytest.approx(loss, rel=1e-5)
    assert len(gradients) == len(expected) > 10
    for ours, theirs in zip(gradients, expected, strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-4, atol=1e-5)
    assert first[0] == again[0] != in_parts
    assert all(torch.equal(one, other) for one, other in zip(first[1], again[1], strict=True))


def test_dropout_is_drawn_once_for_both_passes(
    model: MultiTaskModel, texts: list[TokenizedText], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The gradient is that of the outputs whose loss was taken, dropout included."""
    monkeypatch.setattr(batches, "TOKENS_PER_PASS", {"cpu": 2 * 16})
    text = texts[-1]
    torch.manual_seed(1)
    pieces = [text.pieces[first : first + 2] for first in range(0, len(text.pieces), 2)]
    outputs = torch.cat(
        [
            model.path("texts")(*to_batch(two, 0, torch.device("cpu"), max_tokens=16))
            for two in pieces
        ]
    )
    pooled = outputs_of_texts(outputs, [text], OutputSpec("logits", LABELS))
    torch.autograd.backward(pooled.square().mean(dim=1).sum())
    expected = [one.grad.clone() for one in model.parameters() if one.grad is not None]
    _, gradients = gradients_of(model, "texts", OutputSpec("logits", LABELS), [text])

    assert len(gradients) == len(expected)
    for ours, theirs in zip(gradients, expected, strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("pooling", ["mean", "max", "lse"])
@pytest.mark.parametrize("per_token", [False, True])
def test_training_pools_as_scoring_does(
    texts: list[TokenizedText], pooling: WindowPooling, per_token: bool
) -> None:
    """The same outputs of windows give the same output of the text."""
    rng = np.random.default_rng(0)
    output = OutputSpec("logits", LABELS, per_token=per_token, pooling=pooling)
    pieces = [piece for text in texts for piece in text.pieces]
    shape = (len(pieces), 16, LABELS) if per_token else (len(pieces), LABELS)
    outputs = rng.normal(size=shape).astype(np.float32)
    pooled = outputs_of_texts(torch.from_numpy(outputs), texts, output).numpy()
    position = 0
    for text, ours in zip(texts, pooled, strict=True):
        own = list(outputs[position : position + len(text.pieces)])
        position += len(text.pieces)
        if per_token:
            own = [
                of_piece[: len(piece.ids)] for of_piece, piece in zip(own, text.pieces, strict=True)
            ]
        expected = output.of_text(own, text)

        assert ours[: len(expected)] == pytest.approx(expected, abs=1e-6)
