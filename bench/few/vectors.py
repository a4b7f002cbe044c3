"""Sentence vectors of the default encoder, as it is or tuned by contrast, and a linear model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from itertools import islice
from typing import Self

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from torch.nn.functional import mse_loss, normalize

from bench.few.sets import MAX_TOKENS, TEXT, LabelledSet
from schemas.arrays import BoolArray, Float32Array
from schemas.config.models import EncoderConfig
from schemas.text.model_text import Article, TextSpec, model_text
from schemas.text.tokens import TextTokenizer, TokenizedText
from trainer.evaluation.held_out import to_batch
from trainer.model.encoders import load_encoder
from trainer.model.pooling import mean_pool

ROWS_A_PASS = 32
STRENGTH = 10.0
"""Inverse penalty of the regression: vectors of length 1 need more than the usual 1."""
PAIRS_A_ROW = 40
MOST_PAIRS = 2000
PAIRS_A_STEP = 16
RATE = 2e-5
WARMUP_SHARE = 0.1


class SentenceVectors:
    """Mean hidden states of texts, at length 1."""

    def __init__(self) -> None:
        self._loaded = load_encoder(EncoderConfig().source, markers=False, attention="eager")
        self._tokenizer = TextTokenizer(self._loaded.tokenizer, max_tokens=MAX_TOKENS)
        self._bf16 = torch.cpu._is_amx_tile_supported()

    def encode(self, texts: Sequence[str]) -> Float32Array:
        """Vectors of texts, (texts, hidden)."""
        tokens = self._tokenize(texts)
        order = sorted(range(len(tokens)), key=lambda row: len(tokens[row].ids))
        vectors = np.zeros((len(tokens), self._loaded.model.config.hidden_size), np.float32)
        self._loaded.model.eval()
        with torch.inference_mode():
            for first in range(0, len(order), ROWS_A_PASS):
                rows = order[first : first + ROWS_A_PASS]
                vectors[rows] = self._vectors([tokens[row] for row in rows]).float().numpy()
        return vectors

    @classmethod
    @cache
    def frozen(cls) -> Self:
        """Those of the encoder as it is."""
        return cls()

    @classmethod
    @cache
    def of_tested(cls, one: LabelledSet) -> Float32Array:
        """Vectors of the test rows of a set, by the encoder as it is."""
        return cls.frozen().encode(one.tested[TEXT].to_list())

    def contrast(self, texts: Sequence[str], gold: BoolArray) -> None:
        """Tune the encoder: vectors of texts that share a label come together, others part.

        Source: Tunstall et al. (2022), Efficient Few-Shot Learning Without Prompts (SetFit),
        arXiv 2209.11055: cosine similarity against 1 and 0, as many pairs of both, 40 pairs a row,
        here at most 2,000, and one epoch.
        """
        tokens, model = self._tokenize(texts), self._loaded.model
        pairs = list(islice(_pairs(gold), min(MOST_PAIRS, PAIRS_A_ROW * len(texts))))
        steps = max(1, len(pairs) // PAIRS_A_STEP)
        optimizer = torch.optim.AdamW(model.parameters(), lr=RATE)
        model.train()
        for step in range(steps):
            of_step = pairs[step::steps]
            progress = step / steps
            rate = min(progress / WARMUP_SHARE, (1 - progress) / (1 - WARMUP_SHARE))
            for group in optimizer.param_groups:
                group["lr"] = RATE * rate
            left, right = (
                self._vectors([tokens[pair[side]] for pair in of_step]) for side in (0, 1)
            )
            alike = torch.tensor([float(same) for _, _, same in of_step])
            mse_loss((left * right).sum(dim=1), alike).backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()

    def _tokenize(self, texts: Sequence[str]) -> list[TokenizedText]:
        return list(
            self._tokenizer.encode(
                [model_text(Article(text), TextSpec(), max_tokens=MAX_TOKENS) for text in texts]
            )
        )

    def _vectors(self, texts: Sequence[TokenizedText]) -> torch.Tensor:
        ids, mask = to_batch(texts, self._loaded.pad_id, torch.device("cpu"), max_tokens=MAX_TOKENS)
        with torch.autocast("cpu", torch.bfloat16, enabled=self._bf16):
            states = self._loaded.model(input_ids=ids, attention_mask=mask).last_hidden_state
        return normalize(mean_pool(states.float(), mask), dim=1)


def fit_regression(
    vectors: Float32Array, gold: BoolArray
) -> Callable[[Float32Array], Float32Array]:
    """A logistic regression a label; returns what scores other vectors, (rows, labels)."""
    models = [LogisticRegression(C=STRENGTH, max_iter=1000).fit(vectors, has) for has in gold.T]

    def score(others: Float32Array) -> Float32Array:
        columns = [model.predict_proba(others)[:, 1] for model in models]
        return np.stack(columns, axis=1).astype(np.float32)

    return score


def _pairs(gold: BoolArray) -> Iterator[tuple[int, int, bool]]:
    """Pairs of rows that share a label, and that share none, in turn and without an end."""
    rng = np.random.default_rng(0)
    shared = (gold.astype(np.float32) @ gold.T.astype(np.float32)) > 0
    while True:
        row = int(rng.integers(len(gold)))
        for same in (True, False):
            others = np.flatnonzero(shared[row] == same)
            others = others[others != row]
            if len(others):
                yield row, int(rng.choice(others)), same
