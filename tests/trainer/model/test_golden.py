"""Golden numbers of the default encoder: a change of tokenizing or pooling shows in this table."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from schemas.config.models import EncoderConfig
from schemas.text.model_text import ModelText
from schemas.text.tokens import TextTokenizer, pad
from trainer.model.encoders import LoadedEncoder, load_encoder
from trainer.model.pooling import mean_pool

TEXTS = (
    "Sanctions hurt us more than they hurt them.",
    "Talks now, or war for ever.",
    "a",
    "Über 3,000.50 € für Kyjiw – sofort!",
    "الحرب والسلام",
    "[SEP] is plain text here",
    " ".join(["aid"] * 80),
)

GOLDEN = """
tokens  first id  last id  first four values of the mean state    norm
    11     17147     1012   0.2727   0.0518   0.1587   0.0641   5.274
    10      7566     1012  -0.2380   0.0944   0.0504  -0.0968   4.946
     3      1037     1037  -0.2333   0.2222  -0.2942   0.2198   6.402
    17     19169      999   0.2395   0.1879   0.1110  -0.0096   4.957
    14      1270    22192   0.1689   0.3891   0.0179   0.0552   3.704
     9      1031     2182  -0.0196   0.4016  -0.0615  -0.1684   5.720
    64      4681     4681  -0.1572  -0.1407   0.2196  -0.0257   2.433
"""
"""Of each of TEXTS: its tokens, the ids between the special ones, and the mean hidden state."""

TOLERANCE = 2e-3
"""Of a value: processors multiply in different orders, and the table has four digits."""


@pytest.fixture(scope="module")
def encoder() -> LoadedEncoder:
    """The encoder that a config without `encoder.source` takes."""
    return load_encoder(EncoderConfig().source, markers=False)


@pytest.mark.parametrize(
    ("text", "golden"), list(zip(TEXTS, GOLDEN.strip().splitlines()[1:], strict=True))
)
def test_default_encoder_has_its_golden_numbers(
    encoder: LoadedEncoder, text: str, golden: str
) -> None:
    """Tokens are those of the table, and the mean hidden state is within the tolerance."""
    tokens, first, last, *values = golden.split()
    tokenizer = TextTokenizer(encoder.tokenizer, max_tokens=64)
    (tokenized,) = tokenizer.encode([ModelText(text, cut=False)])
    ids = tokenized.ids
    inputs = pad([ids], rows=1, seq=len(ids), pad_id=encoder.pad_id)
    input_ids, attention_mask = map(torch.from_numpy, inputs)
    with torch.inference_mode():
        states = encoder.model.eval()(input_ids=input_ids, attention_mask=attention_mask)
        mean = mean_pool(states.last_hidden_state, attention_mask)[0].numpy()

    assert [len(ids), ids[1], ids[-2]] == [int(tokens), int(first), int(last)]
    assert [*mean[:4], np.linalg.norm(mean)] == pytest.approx(
        [float(value) for value in values], abs=TOLERANCE
    )
