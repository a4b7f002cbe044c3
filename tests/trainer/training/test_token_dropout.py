"""Token dropout."""

from __future__ import annotations

import numpy as np
import pytest
from tokenizers import AddedToken, Tokenizer, models

from schemas.text.model_text import MARKERS
from schemas.text.tokens import TokenizedText
from trainer.training.token_dropout import TokenDropout

WORDS = ("[PAD]", "[CLS]", "[SEP]", "[MASK]", "bank", "rate", "wheat")
MASK = WORDS.index("[MASK]")


def make_tokenizer(words: tuple[str, ...] = WORDS) -> Tokenizer:
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, "[MASK]"))
    tokenizer.add_special_tokens([word for word in words if word.startswith("[")])
    tokenizer.add_tokens([AddedToken(marker, normalized=False) for marker in MARKERS])
    return tokenizer


def text(ids: list[int]) -> TokenizedText:
    return TokenizedText(np.array(ids, dtype=np.int32), truncated=False)


def test_masks_about_the_share_and_changes_nothing_else() -> None:
    """Other tokens and the truncation flag stay the same."""
    before = text([1] + [4, 5, 6] * 2000 + [2])
    after = TokenDropout(make_tokenizer(), 0.15).hide(before, (7, 0, 0))
    hidden = after.ids == MASK
    assert hidden.mean() == pytest.approx(0.15, abs=0.02)
    assert (after.ids[~hidden] == before.ids[~hidden]).all()
    assert after.ids.dtype == np.int32


def test_special_tokens_and_entity_markers_are_never_masked() -> None:
    """They are added tokens of the tokenizer."""
    tokenizer = make_tokenizer()
    markers = [tokenizer.token_to_id(marker) for marker in MARKERS]
    before = text([1, markers[0], 2, markers[1], 0] * 50)
    after = TokenDropout(tokenizer, 0.9).hide(before, (0,))
    assert (after.ids == before.ids).all()


def test_masked_tokens_depend_on_the_seed() -> None:
    """The same seed masks the same tokens, another seed masks others."""
    dropout, before = TokenDropout(make_tokenizer(), 0.5), text([4, 5, 6] * 30)
    first, again, other = (dropout.hide(before, seed).ids for seed in ((1, 2), (1, 2), (1, 3)))
    assert (first == again).all()
    assert (first != other).any()


def test_the_input_text_is_not_changed() -> None:
    """A new text is returned."""
    before = text([4, 5, 6] * 30)
    TokenDropout(make_tokenizer(), 0.5).hide(before, (0,))
    assert MASK not in before.ids


def test_a_share_of_zero_changes_nothing() -> None:
    """No token is masked."""
    before = text([4, 5, 6])
    assert (TokenDropout(make_tokenizer(), 0.0).hide(before, (0,)).ids == before.ids).all()


def test_the_unknown_token_is_used_without_a_mask_token() -> None:
    """As for tokenizers of word vectors."""
    words = ("[PAD]", "[UNK]", "bank")
    after = TokenDropout(make_tokenizer(words), 0.99).hide(text([2] * 100), (0,))
    assert set(after.ids.tolist()) == {1, 2}
