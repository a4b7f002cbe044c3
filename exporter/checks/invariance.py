"""The same texts in other arrangements, in which none may get another score."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from batch.scoring.runner import GraphRunner
from schemas.arrays import Float32Array
from schemas.text.tokens import TokenizedText

BATCH_MATES = 3
"""Other rows of its own length that each text is given."""

Outputs = Sequence[Float32Array]
"""Output of each text of one task."""


def rearranged(runner: GraphRunner, texts: Sequence[TokenizedText]) -> Mapping[str, Outputs]:
    """Outputs of every text alone, in another order, and among other rows of the batch.

    Returns the outputs by arrangement, in the order of `texts`.
    """
    order = np.random.default_rng(0).permutation(len(texts))
    shuffled = _run(runner, [texts[row] for row in order])
    return {
        "alone": [output for text in texts for output in _run(runner, [text])],
        "in another order": [shuffled[row] for row in np.argsort(order)],
        "among other rows": _run(runner, list(_with_mates(texts)))[BATCH_MATES :: BATCH_MATES + 1],
    }


def mismatches(expected: Outputs, arranged: Mapping[str, Outputs]) -> list[str]:
    """Arrangements in which an output differs from the expected bits."""
    return [
        name
        for name, outputs in arranged.items()
        if any(
            one.tobytes() != other.tobytes() for one, other in zip(expected, outputs, strict=True)
        )
    ]


def _run(runner: GraphRunner, texts: Sequence[TokenizedText]) -> Outputs:
    (outputs,) = runner.outputs(texts)
    return outputs


def _with_mates(texts: Sequence[TokenizedText]) -> Iterator[TokenizedText]:
    """Each text behind BATCH_MATES others of its length: its own tokens, rotated."""
    for text in texts:
        first, inner, last = text.ids[:1], text.ids[1:-1], text.ids[-1:]
        for shift in range(1, BATCH_MATES + 1):
            rotated = np.concatenate([first, np.roll(inner, shift), last])
            yield TokenizedText(rotated, truncated=False)
        yield text
