"""What the tokens of a text say by themselves, without the encoder."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_matrix
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC
from torch import Tensor, nn

from schemas.arrays import BoolArray, Float32Array, Int32Array, Int64Array

MOST_FEATURES = 20_000
"""Tokens and pairs of them that are kept, the most frequent first. On Reuters-21578 all 216,000
ranked no better, and each takes four bytes a label in the file."""
USUAL_WEIGHT = 2.0
"""Times that a term is added to a head's logits where nothing is known; see
docs/lab/lexical-features.md."""
MOST_WEIGHT = 8.0
"""The same where a head is worth nothing: logits stay of a size that calibration is made for."""
MIX_DEVIATION = 0.5
"""Standard deviation of that number, as far as is known before the held-out rows are seen."""
UNBOUND = 10.0
"""Factor by which the prior of the regression leaves the common scale alone."""
SLOTS_PER_PAIR = 16
"""Slots of the hash table for each pair of tokens. Of two pairs in one slot the rarer one is
dropped, which with 16 is about 4 % of them."""
SHORTEST = 0.01
"""Below the length of any vector that has a feature."""

BUFFERS = ("singles", "hashes", "slots", "pairs", "idf", "weights", "bias")


@dataclass(frozen=True)
class Vocabulary:
    """Features that a term looks for.

    singles: token ids. pairs: of tokens that follow one another, each in a slot of its own.
    hashes: (2, ids + 1) int64, what the first and the second token add to the slot of a pair; the
    last column is that of ids that are in no feature. slots: of the hash table. idf: of the singles
    and the pairs, at least 1.
    """

    singles: Sequence[int]
    pairs: Sequence[tuple[int, int]]
    hashes: Int64Array
    slots: int
    idf: Sequence[float]

    @classmethod
    def of_texts(cls, texts: Sequence[Int32Array]) -> Vocabulary:
        """The features that most texts have; of two pairs in one slot the more frequent one.

        texts: token ids of each text. Where as many texts have two features, that of the lower
        ids comes first.
        """
        counts = Counter(feature for text in texts for feature in _features_of(text))
        best = sorted(counts, key=lambda feature: (-counts[feature], feature))[:MOST_FEATURES]
        singles = [feature for feature in best if len(feature) == 1]
        pairs = [feature for feature in best if len(feature) == 2]
        ids = 1 + max((token for feature in best for token in feature), default=-1)
        # Sums of random numbers stay small: some engines multiply integers as fp32.
        half = SLOTS_PER_PAIR // 2 * max(1, len(pairs))
        hashes = np.random.default_rng(0).integers(half, size=(2, ids + 1))
        of_slot: dict[int, tuple[int, ...]] = {}
        for first, second in pairs:
            of_slot.setdefault(int(hashes[0, first] + hashes[1, second]), (first, second))
        features = [*singles, *of_slot.values()]
        idf = [1 + math.log((1 + len(texts)) / (1 + counts[feature])) for feature in features]
        return cls(
            [token for (token,) in singles],
            [(first, second) for first, second in of_slot.values()],
            hashes,
            2 * half,
            idf,
        )


class LexicalTerm(nn.Module):
    """A linear layer over TF-IDF of single tokens and of pairs of neighbours, inside the graph.

        term_l = sum over features f of x_f w_fl / |x| + b_l,   x_f = (1 + ln n_f) idf_f

    n_f is how often a feature is in the text, idf_f = 1 + ln((1 + rows) / (1 + rows with f)). A
    pair is found by its hash and then compared, so that what training never saw adds nothing.

    labels: width of the term.

    Source: Joachims (1998), Text Categorization with Support Vector Machines, ECML; weights of
    terms as in Salton, Buckley (1988), Term-weighting approaches in automatic text retrieval,
    Information Processing & Management 24(5), with a logarithm of the counts.
    """

    singles: Tensor
    hashes: Tensor
    slots: Tensor
    pairs: Tensor
    idf: Tensor
    weights: Tensor
    bias: Tensor

    def __init__(self, labels: int) -> None:
        super().__init__()
        for name in BUFFERS:
            self.register_buffer(name, None)
        self.bias = torch.zeros(labels)
        self.clear()

    @property
    def feature_count(self) -> int:
        """Tokens and pairs that are features; 0 at the beginning."""
        return len(self.idf) - 1

    def take(self, vocabulary: Vocabulary) -> None:
        """Look for other features from now on; their weights are 0.

        Feature 0 is none: that of unknown tokens and pairs. Single tokens come next, then pairs.
        """
        hashes, alone = vocabulary.hashes, len(vocabulary.singles)
        unknown = hashes.shape[1] - 1
        singles = np.zeros(unknown + 1, np.int64)
        singles[list(vocabulary.singles)] = 1 + np.arange(alone)
        pairs = np.array(vocabulary.pairs, np.int64).reshape(-1, 2)
        slots = np.zeros(vocabulary.slots, np.int64)
        slots[hashes[0, pairs[:, 0]] + hashes[1, pairs[:, 1]]] = 1 + alone + np.arange(len(pairs))
        no_pair = np.full((1 + alone, 2), -1)
        labels, device = len(self.bias), self.bias.device
        self.singles = torch.from_numpy(singles).to(device)
        self.hashes = torch.from_numpy(hashes).to(device)
        self.slots = torch.from_numpy(slots).to(device)
        self.pairs = torch.from_numpy(np.concatenate([no_pair, pairs]).T.copy()).to(device)
        # In shares of the largest, so that squares add up in fp16, too.
        idf = torch.tensor([0.0, *vocabulary.idf]) / max(vocabulary.idf, default=1.0)
        self.idf = idf.to(device)
        self.weights = torch.zeros(len(idf), labels, device=device)
        self.bias = torch.zeros(labels, device=device)

    def clear(self) -> None:
        """Drop all features."""
        self.take(Vocabulary((), (), np.zeros((2, 1), np.int64), 1, ()))

    def scale(self, weight: float) -> None:
        """Multiply the term."""
        self.weights, self.bias = self.weights * weight, self.bias * weight

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Both (rows, seq) int64, to (rows, labels)."""
        values, numbers = self.features(input_ids, attention_mask)
        # A matrix product adds up in fp32 even where its factors are in bf16.
        term = values.unsqueeze(1) @ self.weights[numbers]  # (rows, 1, labels)
        return term.squeeze(1) + self.bias

    def features(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Share of each place in the text's feature vector, and the number of the feature there.

        Returns (rows, 2 * seq) float32 and int64: the single tokens, then the pairs. The values of
        places with the same feature add up to its value in a vector of length 1.
        """
        unknown = len(self.singles) - 1
        ids = torch.where(attention_mask > 0, input_ids.clamp(max=unknown), unknown)
        nexts = torch.cat([ids[:, 1:], torch.full_like(ids[:, :1], unknown)], dim=1)
        single = self.singles[ids]
        number = self.slots[self.hashes[0][ids] + self.hashes[1][nexts]]
        # Other pairs may have the same hash.
        pair = number * ((self.pairs[0][number] == ids) & (self.pairs[1][number] == nexts))
        counts = torch.cat([_counts(single), _counts(pair)], dim=1)  # (rows, 2 * seq)
        numbers = torch.cat([single, pair], dim=1)
        values = (1 + counts.log()) * self.idf[numbers]  # of the feature, at each of its places
        lengths = (values.pow(2) / counts).sum(dim=1, keepdim=True).sqrt()
        return values / counts / lengths.clamp(min=SHORTEST), numbers

    def _load_from_state_dict(
        self, state_dict: dict[str, Tensor], prefix: str, *rest: Any, **options: Any
    ) -> None:
        """Take as many features as there are stored."""
        for name in BUFFERS:
            if prefix + name in state_dict:
                setattr(self, name, state_dict[prefix + name].clone())
        super()._load_from_state_dict(state_dict, prefix, *rest, **options)


def fit(term: LexicalTerm, texts: Sequence[Int32Array], gold: BoolArray) -> None:
    """Train a term on texts: a linear support vector machine for each label against the rest.

    texts: token ids of each text. gold: (texts, labels) bool. The same arguments give the same
    weights. A label that all texts have, or none, gets a constant.
    """
    term.take(Vocabulary.of_texts(texts))
    matrix = _matrix(term, texts)
    for label, has in enumerate(gold.T):
        if has.all() or not has.any():
            term.bias[label] = 1.0 if has.all() else -1.0  # the margin of a support vector
            continue
        machine = LinearSVC(random_state=0).fit(matrix, has)
        term.weights[:, label] = torch.from_numpy(machine.coef_[0])
        term.bias[label] = float(machine.intercept_[0])
    term.weights[0] = 0.0


def _features_of(text: Int32Array) -> set[tuple[int, ...]]:
    tokens: list[int] = text.tolist()
    return {(token,) for token in tokens} | set(pairwise(tokens))


def term_weight(outputs: Float32Array, added: Float32Array, gold: BoolArray) -> float:
    """How many times a term is to be added to a head's outputs, from held-out rows.

    The answer is `USUAL_WEIGHT` where there are no rows. A logistic regression of all (row, label)
    pairs moves it, as far as they speak against it.

    outputs, added: (rows, labels) float32, without the term and the term. gold: bool.
    Returns a number from 0 to `MOST_WEIGHT`.
    Source: Wolpert (1992), Stacked Generalization, Neural Networks 5(2), here with a prior.
    """
    if not gold.any() or gold.all():
        return USUAL_WEIGHT
    together = outputs + USUAL_WEIGHT * added
    # What is scaled up is hardly held back by the regression's prior: only the mix is.
    pairs = np.stack([UNBOUND * together.ravel(), MIX_DEVIATION * added.ravel()], axis=1)
    scale, more = LogisticRegression(max_iter=1000).fit(pairs, gold.ravel()).coef_[0]
    if scale <= 0:  # one of the two speaks against the labels, and drowns the other
        return MOST_WEIGHT if more > 0 else 0.0
    weight = USUAL_WEIGHT + float(MIX_DEVIATION * more / (UNBOUND * scale))
    return min(max(weight, 0.0), MOST_WEIGHT)


@torch.inference_mode()
def _matrix(term: LexicalTerm, texts: Sequence[Int32Array]) -> csr_matrix:
    """Feature vectors of texts, (texts, features)."""
    values, columns, ends = [], [], [0]
    for text in texts:
        ids = torch.from_numpy(text.astype(np.int64)).unsqueeze(0).to(term.bias.device)
        of_places, numbers = term.features(ids, torch.ones_like(ids))
        values.append(of_places[0].cpu().numpy())
        columns.append(numbers[0].cpu().numpy())
        ends.append(ends[-1] + len(values[-1]))
    shape = (len(texts), len(term.idf))
    matrix = csr_matrix((np.concatenate(values), np.concatenate(columns), ends), shape=shape)
    matrix.sum_duplicates()
    return matrix


def _counts(numbers: Tensor) -> Tensor:
    """How often the number at each place is in its row; (rows, seq) int64 to float32."""
    same = numbers.unsqueeze(1) == numbers.unsqueeze(2)  # (rows, seq, seq)
    return same.to(torch.float32).sum(dim=2)
