"""Token dropout while training, so that no article is recognized by a single rare word."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from tokenizers import Tokenizer

from schemas.text.tokens import UNKNOWN_TOKENS, TokenizedText

MASK_TOKENS = ("[MASK]", "<mask>")
"""Names of the mask token; without one, the unknown token is used."""


class TokenDropout:
    """Replaces a random share of a text's tokens by the mask token.

    Word dropout (Dai and Le, 2015), also called token cutoff (Shen et al., 2020). Special tokens
    and entity markers are never replaced. With a share of 0 texts are not changed.
    """

    def __init__(self, tokenizer: Tokenizer, share: float) -> None:
        self._share = share
        self._special_ids = np.array(sorted(tokenizer.get_added_tokens_decoder()), dtype=np.int32)
        ids = (tokenizer.token_to_id(name) for name in (*MASK_TOKENS, *UNKNOWN_TOKENS))
        self._mask_id = next((number for number in ids if number is not None), None)

    def hide(self, text: TokenizedText, seed: Sequence[int]) -> TokenizedText:
        """Mask tokens of one text; the same seed masks the same tokens."""
        if not self._share or self._mask_id is None:
            return text
        drawn = np.random.default_rng(seed).random(len(text.ids)) < self._share
        masked = drawn & ~np.isin(text.ids, self._special_ids)
        ids = np.where(masked, np.int32(self._mask_id), text.ids)
        return replace(text, ids=ids)
