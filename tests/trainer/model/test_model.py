"""What the model, its pooling and its optimizer promise."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from schemas.config.models import TrainConfig
from schemas.text.tokens import TokenizedText
from tests.strategies import STEADY
from tests.tiny import make_encoder
from trainer.evaluation.held_out import to_batch
from trainer.model.encoders import load_encoder
from trainer.model.heads import make_heads
from trainer.model.multitask import MultiTaskModel
from trainer.model.pooling import mean_pool
from trainer.training.optim import make_optimizer, make_schedule

CPU = torch.device("cpu")
# transformers compiles parts of some encoders with a function that torch is about to retire.
OLD_TORCH_JIT = pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")


@pytest.fixture(scope="module")
def model(encoder: Path) -> MultiTaskModel:
    """A bert with two heads."""
    torch.manual_seed(0)
    loaded = load_encoder(str(encoder), markers=False).model
    return MultiTaskModel(loaded, make_heads(loaded, {"topics": 3, "roles": 2}, dropout=0.5)).eval()


def test_joint_path_gives_every_task_its_own_logits(model: MultiTaskModel) -> None:
    """Over one run of the encoder, in the order asked for, each head says what it says alone."""
    input_ids = torch.arange(5, 25).reshape(2, 10)
    mask = torch.ones_like(input_ids)
    path = model.joint(["roles", "topics"])

    with torch.inference_mode():
        roles, topics = path(input_ids, mask)
        assert path.tasks == ("roles", "topics")
        assert roles.equal(model.path("roles")(input_ids, mask))
        assert topics.equal(model.path("topics")(input_ids, mask))


def test_mean_pool_averages_real_tokens() -> None:
    """Only tokens that the mask marks count."""
    hidden = torch.tensor([[[1.0, 2.0], [3.0, 6.0], [99.0, -99.0]]])

    pooled = mean_pool(hidden, torch.tensor([[1, 1, 0]]))

    assert pooled.tolist() == [[2.0, 4.0]]


@STEADY
@given(seq=st.integers(1, 9), padding=st.integers(0, 9), seed=st.integers(0, 99))
def test_mean_pool_ignores_padding(seq: int, padding: int, seed: int) -> None:
    """Whatever stands in padded places, and however many there are, the mean is the same."""
    generator = torch.Generator().manual_seed(seed)
    real = torch.randn(2, seq, 4, generator=generator)
    filler = torch.randn(2, padding, 4, generator=generator) * 1e3
    mask = torch.cat([torch.ones(2, seq), torch.zeros(2, padding)], dim=1).long()

    pooled = mean_pool(torch.cat([real, filler], dim=1), mask)

    torch.testing.assert_close(pooled, real.mean(dim=1))


def test_mean_pool_of_nothing_is_zero() -> None:
    """A row without a real token gives zeros, not NaN."""
    pooled = mean_pool(torch.full((1, 3, 2), 5.0), torch.zeros(1, 3, dtype=torch.long))

    assert pooled.tolist() == [[0.0, 0.0]]


def test_padding_does_not_change_logits(model: MultiTaskModel) -> None:
    """A row alone and the same row padded among longer ones have the same logits."""
    rng = np.random.default_rng(0)
    texts = [
        TokenizedText(rng.integers(5, 700, size=size).astype(np.int32), False)
        for size in (3, 17, 40)
    ]
    with torch.inference_mode():
        together = model.path("topics")(*to_batch(texts, 0, CPU, max_tokens=40))
        alone = torch.cat(
            [model.path("topics")(*to_batch([text], 0, CPU, max_tokens=40)) for text in texts]
        )

    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)


def test_batch_is_filled_to_one_of_few_lengths() -> None:
    """Ids are filled with the pad id up to one of few lengths, and the mask marks the real ones,
    both int64.
    """
    texts = [TokenizedText(np.array(ids, np.int32), False) for ids in ([2, 3], [2, 9, 9, 3])]

    input_ids, attention_mask = to_batch(texts, 7, CPU, max_tokens=6)

    assert input_ids.dtype == attention_mask.dtype == torch.int64
    assert input_ids.tolist() == [[2, 3, 7, 7, 7, 7], [2, 9, 9, 3, 7, 7]]
    assert attention_mask.tolist() == [[1, 1, 0, 0, 0, 0], [1, 1, 1, 1, 0, 0]]


def test_each_task_has_its_own_head(model: MultiTaskModel) -> None:
    """One encoder, and as many logits as the task has labels."""
    ids = torch.tensor([[2, 9, 3]])
    mask = torch.ones_like(ids)

    assert model.path("topics")(ids, mask).shape == (1, 3)
    assert model.path("roles")(ids, mask).shape == (1, 2)


def test_path_shares_its_weights(model: MultiTaskModel) -> None:
    """What is exported of a task is the trained encoder and head themselves."""
    ids = torch.tensor([[2, 9, 8, 3]])
    mask = torch.ones_like(ids)
    path = model.path("topics")

    assert path.encoder is model.encoder
    assert torch.equal(path(ids, mask), model(ids, mask, ("topics",))[0])


@pytest.mark.parametrize("task", ["type", "keys", "items", "train", "forward", "apply", "float"])
def test_task_may_be_called_anything(encoder: Path, task: str) -> None:
    """A task name that Python or torch uses for something else still gets its head."""
    loaded = load_encoder(str(encoder), markers=False).model
    model = MultiTaskModel(loaded, make_heads(loaded, {task: 2, "topics": 3}))
    ids = torch.tensor([[2, 9, 3]])

    assert model.path(task)(ids, torch.ones_like(ids)).shape == (1, 2)


@OLD_TORCH_JIT
@pytest.mark.parametrize("model_type", ["bert", "modernbert", "deberta-v2", "distilbert"])
def test_biases_and_norms_do_not_decay(
    tmp_path: Path, tokenizer: Tokenizer, model_type: str
) -> None:
    """Weight decay acts on matrices, and on nothing called bias or norm; none is forgotten."""
    folder = make_encoder(tmp_path, model_type, tokenizer=tokenizer)
    loaded = load_encoder(str(folder), markers=False).model
    model = MultiTaskModel(loaded, make_heads(loaded, {"topics": 3}))
    groups = make_optimizer(model, TrainConfig(weight_decay=0.3)).param_groups
    decay = {id(one): group["weight_decay"] for group in groups for one in group["params"]}

    found = {name: decay[id(one)] for name, one in model.named_parameters()}
    plain = {name for name in found if "norm" in name.lower() or name.endswith("bias")}
    assert plain
    assert {name for name, value in found.items() if value == 0.0} == plain
    assert set(found.values()) == {0.0, 0.3}


def test_bias_without_a_gradient_stays(model: MultiTaskModel) -> None:
    """A step with zero gradients shrinks matrices by rate times decay, and no bias and no norm.

    The rate of a head is `head_rate` times that of the encoder.
    """
    twin = MultiTaskModel(model.encoder, make_heads(model.encoder, {"topics": 3}))
    before = {name: value.clone() for name, value in twin.state_dict().items()}
    train = TrainConfig(weight_decay=0.5, learning_rate=0.1, head_rate=2.0)
    optimizer = make_optimizer(twin, train)
    for parameter in twin.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    after = {name: value.clone() for name, value in twin.state_dict().items()}
    model.encoder.load_state_dict(
        {name.removeprefix("encoder."): value for name, value in before.items() if "enc" in name},
        strict=False,
    )

    for name, value in before.items():
        if value.ndim < 2:
            assert torch.equal(after[name], value), name
    for name, left in (
        ("encoder.embeddings.word_embeddings.weight", 0.95),
        ("heads.topics.linear.weight", 0.9),
    ):
        torch.testing.assert_close(after[name], before[name] * left)


def test_rate_warms_up_and_falls_to_zero(model: MultiTaskModel) -> None:
    """The rate rises linearly to its peak over the warm-up, then falls linearly to 0."""
    train = TrainConfig(learning_rate=1.0, warmup_share=0.2)
    twin = MultiTaskModel(model.encoder, make_heads(model.encoder, {"topics": 1}))
    optimizer = make_optimizer(twin, train)
    schedule = make_schedule(optimizer, train, steps=10)
    rates = []
    for _ in range(11):
        rates.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()

    assert rates == pytest.approx([0, 0.5, 1, 7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8, 0])


def test_frozen_weights_are_not_trained(model: MultiTaskModel) -> None:
    """What does not learn is left out of the optimizer, so that decay leaves it alone too."""
    embeddings = model.encoder.get_input_embeddings().requires_grad_(False)
    optimizer = make_optimizer(model, TrainConfig())
    embeddings.requires_grad_(True)
    trained = {id(weight) for group in optimizer.param_groups for weight in group["params"]}

    assert id(embeddings.weight) not in trained
    assert len(trained) == sum(1 for _ in model.parameters()) - 1
