"""What a head promises that reads a marked entity."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer

from schemas.text.model_text import MARKERS
from tests.tiny import make_encoder
from trainer.model.encoders import load_encoder
from trainer.model.entity import EntityTerm, MarkerIds, entity_mask
from trainer.model.heads import make_heads
from trainer.model.multitask import MultiTaskModel

IDS = MarkerIds(start=8, end=9)


@pytest.mark.parametrize(
    ("ids", "mask"),
    [
        pytest.param([1, 8, 5, 5, 9, 2], [0, 1, 1, 1, 1, 0], id="inside"),
        pytest.param([8, 5, 9, 4, 4, 2], [1, 1, 1, 0, 0, 0], id="at the beginning"),
        pytest.param([1, 4, 4, 8, 5, 2], [0, 0, 0, 1, 1, 1], id="end cut off"),
        pytest.param([1, 4, 4, 4, 4, 2], [0, 0, 0, 0, 0, 0], id="no entity"),
        pytest.param([1, 4, 9, 4, 4, 2], [0, 0, 0, 0, 0, 0], id="beginning cut off"),
    ],
)
def test_tokens_of_the_entity(ids: list[int], mask: list[int]) -> None:
    """From one marker to the other, both included."""
    input_ids = torch.tensor([ids])

    assert entity_mask(input_ids, torch.ones_like(input_ids), IDS).tolist() == [mask]


def test_padding_is_no_part_of_an_entity() -> None:
    """Not even of one whose end is cut off."""
    mask = entity_mask(torch.tensor([[1, 8, 5, 0, 0]]), torch.tensor([[1, 1, 1, 0, 0]]), IDS)

    assert mask.tolist() == [[0, 1, 1, 0, 0]]


def test_term_is_of_the_entity_alone() -> None:
    """States outside of the entity do not change it, those inside do."""
    torch.manual_seed(0)
    term = EntityTerm(4, 3, IDS, dropout=0.0)
    input_ids = torch.tensor([[1, 8, 5, 9, 2]])
    mask = torch.ones_like(input_ids)
    states = torch.randn(1, 5, 4)
    outside, inside = states.clone(), states.clone()
    outside[:, [0, 4]] += 1
    inside[:, 2] += 1

    assert term(outside, input_ids, mask).equal(term(states, input_ids, mask))
    assert not term(inside, input_ids, mask).allclose(term(states, input_ids, mask))


def test_one_head_reads_the_entity_beside_another_that_does_not(
    encoder: Path,
) -> None:
    """Of two tasks over one encoder only the one with markers has a term for the entity."""
    torch.manual_seed(0)
    loaded = load_encoder(str(encoder), markers=True)
    markers = MarkerIds.of(loaded.tokenizer)
    heads = {
        **make_heads(loaded.model, {"topics": 3}),
        **make_heads(loaded.model, {"roles": 2}, markers=markers),
    }
    model = MultiTaskModel(loaded.model, heads).eval()
    input_ids = torch.tensor([[2, 7, markers.start, 9, markers.end, 3]])
    mask = torch.ones_like(input_ids)
    with torch.inference_mode():
        before = model(input_ids, mask, ("topics", "roles"))
        model.head("roles").get_parameter("entity.linear.weight").mul_(2.0)
        after = model(input_ids, mask, ("topics", "roles"))

    assert before[0].equal(after[0])
    assert not before[1].allclose(after[1])


def test_stored_padding_is_no_part_of_a_marker(tmp_path: Path, tokenizer: Tokenizer) -> None:
    """Some tokenizers are stored with padding to a fixed length; markers have none of it."""
    folder = make_encoder(tmp_path / "plain", tokenizer=tokenizer)
    plain = load_encoder(str(folder), markers=True)
    padded = Tokenizer.from_str(tokenizer.to_str())
    padded.enable_padding(length=64)
    padded.enable_truncation(1)
    padded.save(str(folder / "tokenizer.json"))
    loaded = load_encoder(str(folder), markers=True)
    table, same = (one.model.get_input_embeddings().weight for one in (plain, loaded))
    ids = MarkerIds.of(loaded.tokenizer)
    assert isinstance(table, torch.Tensor)
    assert isinstance(same, torch.Tensor)

    assert table.equal(same)
    assert not table[ids.start].allclose(table[ids.end])


def test_markers_begin_as_their_word_pieces(encoder: Path, tokenizer: Tokenizer) -> None:
    """Their vectors are means of vectors that the encoder has, so that nothing is random."""
    loaded, again = (load_encoder(str(encoder), markers=True) for _ in range(2))
    table, same = (one.model.get_input_embeddings().weight for one in (loaded, again))
    assert isinstance(table, torch.Tensor)
    assert isinstance(same, torch.Tensor)

    for marker in MARKERS:
        pieces = tokenizer.encode(marker, add_special_tokens=False).ids
        place = loaded.tokenizer.token_to_id(marker)
        torch.testing.assert_close(table[place], table[pieces].mean(dim=0))
    assert table.equal(same)
