"""The same texts in other arrangements, in which none may get another score."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from batch.scoring.scorer import LogitRunner
from schemas.arrays import Float32Array
from schemas.text.tokens import TokenizedText

COMPANY = 3
"""Neighbours of its own length that each text is given."""


def rearranged(runner: LogitRunner, texts: Sequence[TokenizedText]) -> Mapping[str, Float32Array]:
    """Logits of every text alone, in another order, and at another place among other neighbours.

    Returns (rows, labels) float32 by arrangement, rows in the order of `texts`.
    """
    order = np.random.default_rng(0).permutation(len(texts))
    return {
        "alone": np.concatenate([runner.logits([text]) for text in texts]),
        "in another order": runner.logits([texts[row] for row in order])[np.argsort(order)],
        "among other neighbours": runner.logits(list(_in_company(texts)))[COMPANY :: COMPANY + 1],
    }


def _in_company(texts: Sequence[TokenizedText]) -> Iterator[TokenizedText]:
    """Each text behind COMPANY others of its length: its own tokens, turned by some places."""
    for text in texts:
        first, inner, last = text.ids[:1], text.ids[1:-1], text.ids[-1:]
        for places in range(1, COMPANY + 1):
            turned = np.concatenate([first, np.roll(inner, places), last])
            yield TokenizedText(turned, truncated=False)
        yield text
