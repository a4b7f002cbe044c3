"""What heads that start from the names of labels promise."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest
import torch

from schemas.config.models import TrainingRun
from schemas.errors import ConfigError
from schemas.text.tokens import TextTokenizer
from tests.tiny import make_encoder, make_tokenizer
from trainer.checkpoint.reader import Checkpoint
from trainer.model.encoders import LoadedEncoder, load_encoder
from trainer.model.heads import LabelAttentionHead
from trainer.model.label_names import label_words, name_vectors
from trainer.training.loop import train

MakeRun: TypeAlias = Callable[..., TrainingRun]
STILL = ("train.epochs=1", "train.learning_rate=1e-12", "train.weight_decay=0.0")
"""A run that hardly moves a weight."""
NAMES = ["the climate", "a war in the east", "energy prices", "election"]


@pytest.fixture
def loaded(tmp_path: Path) -> LoadedEncoder:
    """A small encoder with random weights."""
    folder = make_encoder(tmp_path / "encoder", tokenizer=make_tokenizer())
    found = load_encoder(str(folder), markers=False)
    TextTokenizer(found.tokenizer, max_tokens=32)  # as a run does: no padding, no cut
    return found


def test_vector_is_the_mean_over_the_name(loaded: LoadedEncoder) -> None:
    """Each name has the mean hidden state of its own tokens, whatever names stand beside it."""
    together = name_vectors(loaded, NAMES)
    loaded.model.eval()
    for name, found in zip(NAMES, together, strict=True):
        ids = torch.tensor([loaded.tokenizer.encode(name).ids])
        with torch.inference_mode():
            hidden = loaded.model(
                input_ids=ids, attention_mask=torch.ones_like(ids)
            ).last_hidden_state[0]

        torch.testing.assert_close(found, hidden[1:-1].mean(dim=0))


def test_label_speaks_loudest_on_its_own_name(loaded: LoadedEncoder) -> None:
    """Before any training, a name has a higher logit for its own label than other names have."""
    vectors = name_vectors(loaded, NAMES)
    head = LabelAttentionHead(vectors.shape[1], len(NAMES)).eval()
    torch.nn.init.zeros_(head.linear.weight)
    head.start_from_names(vectors)
    names_as_articles = torch.ones(len(NAMES), 1).long()
    logits = head.from_states(vectors.unsqueeze(1), names_as_articles)

    assert logits.argmax(dim=0).tolist() == list(range(len(NAMES)))


def test_scale_of_the_encoder_changes_nothing(loaded: LoadedEncoder) -> None:
    """An encoder whose hidden states are ten times as large gives its labels the same logits."""
    vectors = name_vectors(loaded, NAMES)
    values = []
    for scale in (1.0, 10.0):
        head = LabelAttentionHead(vectors.shape[1], len(NAMES))
        head.start_from_names(scale * vectors)
        values.append(head.value(scale * vectors))

    torch.testing.assert_close(values[0], values[1])


@pytest.mark.parametrize("names", [["one"], ["same", "same", "same"]])
def test_names_that_tell_nothing_apart_change_nothing(
    loaded: LoadedEncoder, names: list[str]
) -> None:
    """A single label, or labels of one name, leave the head as it was."""
    vectors = name_vectors(loaded, names)
    head = LabelAttentionHead(vectors.shape[1], len(names))
    before = {name: value.clone() for name, value in head.state_dict().items()}
    head.start_from_names(vectors)

    for name, value in head.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_words_stand_in_for_names_that_say_nothing() -> None:
    """Words that are given are read in place of the name; else its hyphens are spaces."""
    assert label_words("t", ["dlr", "palm-oil", "left_wing"], {"dlr": "US dollar"}) == [
        "US dollar",
        "palm oil",
        "left wing",
    ]


def test_words_for_an_unknown_label_are_refused() -> None:
    """The message names the label that was probably meant."""
    with pytest.raises(ConfigError, match="did you mean 'dlr'") as caught:
        label_words("topics", ["dlr", "tea"], {"dlrs": "US dollar"})

    assert "tasks.topics.label_names" in str(caught.value)


@pytest.mark.parametrize("start", ["names", "random"])
def test_run_starts_its_heads_as_the_config_says(
    make_run: MakeRun, tmp_path: Path, start: str
) -> None:
    """The projection of a head that starts from names is the identity, a random one is not."""
    run = make_run(*STILL, "tasks.topics.head=label_attention", f"tasks.topics.head_start={start}")
    head = Checkpoint.open(train(run, tmp_path / "out").folder).model.heads["topics"]
    assert isinstance(head, LabelAttentionHead)
    width = head.key.weight.shape[0]

    assert torch.allclose(head.key.weight, torch.eye(width), atol=1e-6) == (start == "names")
