"""Tasks that are labelled on the same rows share the steps of their training."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from click.testing import CliRunner
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import AutoModel

from schemas.config.files import load_config
from schemas.kinds.base import OutputSpec
from schemas.text.model_text import ModelText
from schemas.text.tokens import TextTokenizer
from schemas.text.windows import WindowSpec
from tests.tiny import ONE_LABEL_TASK, make_tokenizer, sample_rows, write_config
from trainer.cli import main
from trainer.data.dataset import load_tasks
from trainer.data.task_data import TokenizedRows
from trainer.evaluation.held_out import predict, predict_together
from trainer.evaluation.history import History
from trainer.kinds import TRAINER_KINDS
from trainer.model.heads import HEADS, TokenHead
from trainer.model.multitask import MultiTaskModel
from trainer.training.gradients import Gradients
from trainer.training.shared_rows import tasks_that_share_held_out_rows
from trainer.training.state import RunState

OUTPUTS = {"texts": OutputSpec("logits", 3), "tokens": OutputSpec("logits", 5, per_token=True)}


@pytest.fixture
def model(encoder: Path) -> MultiTaskModel:
    """An encoder with a head over texts and one over tokens."""
    torch.manual_seed(0)
    heads = {"texts": HEADS["mean"](32, 3, dropout=0.0), "tokens": TokenHead(32, 5, dropout=0.0)}
    return MultiTaskModel(AutoModel.from_pretrained(encoder), heads).train()


def squares(outputs: Sequence[Tensor], part: slice) -> list[Tensor]:
    """A loss for each task."""
    return [one.square().flatten(1).mean(dim=1).sum() for one in outputs]


def gradients(model: nn.Module) -> dict[str, Tensor]:
    """The gradient of each parameter that has one."""
    return {
        name: one.grad.clone() for name, one in model.named_parameters() if one.grad is not None
    }


def test_a_shared_step_adds_the_gradients_of_its_tasks(
    model: MultiTaskModel, tokenizer: Tokenizer
) -> None:
    """One run of the encoder gives what a run for each task gives."""
    copied = Tokenizer.from_str(tokenizer.to_str())
    bodies = [ModelText(body, cut=False) for body in sample_rows()["text"].to_list()[:6]]
    texts = list(TextTokenizer(copied, max_tokens=32).encode(bodies))
    maker = Gradients(model, Accelerator(), pad_id=0, max_tokens=32, bf16=False)
    alone = [maker.add({task: output}, texts, squares) for task, output in OUTPUTS.items()]
    expected = gradients(model)
    model.zero_grad()
    together = maker.add(OUTPUTS, texts, squares)
    shared = gradients(model)

    assert together.tolist() == pytest.approx([float(loss) for loss in alone], rel=1e-5)
    assert shared.keys() == expected.keys()
    for name, gradient in shared.items():
        assert torch.allclose(gradient, expected[name], rtol=1e-3, atol=1e-5), name


def test_tasks_are_measured_together_as_alone(model: MultiTaskModel, tokenizer: Tokenizer) -> None:
    """One run of the encoder gives each task the outputs of a run of its own, to the bit."""
    copied = Tokenizer.from_str(tokenizer.to_str())
    bodies = [ModelText(body, cut=False) for body in sample_rows()["text"].to_list()[:40]]
    windows = WindowSpec(tokens=32, stride=20, max_windows=3, pooling="mean")
    texts = list(TextTokenizer(copied, max_tokens=32).encode(bodies, windows=windows))
    assert max(len(text.pieces) for text in texts) == 3
    nothing = np.zeros((len(texts), 0), np.bool_)
    rows = TokenizedRows(texts, nothing, nothing, [""] * len(texts))
    options = {"pad_id": 0, "max_tokens": 32, "bf16": False, "accelerator": Accelerator()}
    runs = 0

    def count(*_: object) -> None:
        nonlocal runs
        runs += 1

    hook = model.encoder.register_forward_hook(count)
    heads = [(model.head(task), output) for task, output in OUTPUTS.items()]
    together = predict_together(model.encoder, heads, rows, **options)
    runs_together = runs
    for task, outputs in zip(OUTPUTS, together, strict=True):
        alone = predict(model.path(task), OUTPUTS[task], rows, **options)
        assert all(map(np.array_equal, outputs, alone))
    hook.remove()
    assert runs == 3 * runs_together > 0


def test_held_out_rows_are_shared_where_they_are_the_same(tmp_path: Path, encoder: Path) -> None:
    """The title is part of what is read, so that one task stands apart."""
    run = load_config(write_config(tmp_path / "config.toml", encoder, extra=ONE_LABEL_TASK))
    data = load_tasks(run, TextTokenizer(make_tokenizer(), max_tokens=64))
    objectives = {
        task: objective
        for task in data
        if (objective := TRAINER_KINDS[run.tasks[task].kind].objective(run.tasks[task]))
    }

    groups = tasks_that_share_held_out_rows(data, objectives)

    assert sorted(map(sorted, groups)) == [["entity_framing"], ["narrative", "outlet"]]


def test_tasks_of_the_same_rows_add_no_tokens(tmp_path: Path, encoder: Path) -> None:
    """A second task over the same articles is trained by the steps of the first."""
    tokens = []
    for number, extra in enumerate(("", ONE_LABEL_TASK)):
        folder = tmp_path / str(number)
        folder.mkdir()
        config = write_config(folder / "config.toml", encoder, epochs=1, extra=extra)
        output = folder / "checkpoint"
        result = CliRunner().invoke(main, [str(config), "--output", str(output)])
        assert result.exit_code == 0, result.output
        (epoch,) = json.loads((output / "history.json").read_text())["epochs"]
        tokens.append(round(epoch["tokens_per_s"] * epoch["seconds"]))
        tasks = set(epoch["loss"])

    assert tasks == {"narrative", "entity_framing", "outlet"}
    assert tokens[0] == pytest.approx(tokens[1], rel=0.02)  # each sees its own training rows


def test_large_losses_have_less_weight() -> None:
    """By the root of what they were at first; the smallest has weight 1, as has a single task."""
    state = RunState(config_sha256="", data_sha256="", history=History(metric_name="mean_f1"))
    assert state.weight("topics") == 1.0

    state.initial_losses = {"topics": 0.05, "outlet": 1.0, "empty": 0.0}

    assert state.weight("outlet") == pytest.approx(state.weight("topics") / 20**0.5)
    assert state.weight("empty") == 1.0
