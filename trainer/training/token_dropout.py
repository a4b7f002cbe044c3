"""Hiding tokens while training, so that no article is recognised by a single rare word."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from tokenizers import Tokenizer

from schemas.text.tokens import UNKNOWN_TOKENS, TokenizedText

MASK_TOKENS = ("[MASK]", "<mask>")
"""What the mask token is called; where there is none, the unknown token stands in."""


class TokenDropout:
    """Puts the mask token in place of a share of a text's tokens, others each time.

    Word dropout (Dai and Le, 2015), also called token cutoff (Shen et al., 2020). Special tokens
    and entity markers stay. With a share of 0 texts stay as they are.
    """

    def __init__(self, tokenizer: Tokenizer, share: float) -> None:
        self._share = share
        self._kept = np.array(sorted(tokenizer.get_added_tokens_decoder()), dtype=np.int32)
        found = (tokenizer.token_to_id(name) for name in (*MASK_TOKENS, *UNKNOWN_TOKENS))
        self._mask_id = next((number for number in found if number is not None), None)

    def hide(self, text: TokenizedText, seed: Sequence[int]) -> TokenizedText:
        """Hide tokens of one text; the same seed hides the same ones."""
        if not self._share or self._mask_id is None:
            return text
        drawn = np.random.default_rng(seed).random(len(text.ids)) < self._share
        hidden = drawn & ~np.isin(text.ids, self._kept)
        ids = np.where(hidden, np.int32(self._mask_id), text.ids)
        return TokenizedText(ids=ids, truncated=text.truncated)
