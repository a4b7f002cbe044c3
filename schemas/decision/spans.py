"""Spans of words: BIO tags, their decoding, and how spans are compared with gold ones.

Tags are numbers: 0 is outside of every span; for label `k`, `1 + 2 * k` begins a span and
`2 + 2 * k` continues it (Ramshaw and Marcus, 1995).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from schemas.arrays import Float32Array, Float64Array, Int64Array
from schemas.decision.decide import Calibration, CalibrationMethod, Probability
from schemas.decision.metrics import F1Scores
from schemas.tasks.sections import Section
from schemas.text.words import Words

OUTSIDE = 0
IGNORED = -100
"""Tag of a token that has none: padding, and the pieces of a word after its first."""

Decoding = Literal["repair", "viterbi"]


class SpanDecisionConfig(Section):
    """How tags become spans, and what their scores mean, chosen on the held-out rows."""

    decoding: Decoding = "viterbi"
    """From the scores of tags to spans. `viterbi`: the most probable sequence in which every tag
    that continues a span follows one of the same label. `repair`: the most probable tag of each
    word, where one that continues nothing begins a span, as seqeval reads it."""
    calibration: CalibrationMethod = "platt"
    """How the score of a span becomes the probability that it is right, as for other kinds."""
    least_score: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Spans with a lower score are left out."""


class SpanDecision(BaseModel):
    """What the ONNX file carries to turn tags into spans."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    decoding: Decoding
    calibration: Calibration
    """Of one number: the score of a span."""
    least_score: Probability


class SpanEvidence(BaseModel):
    """How the scores of spans were calibrated, on the spans that were found in held-out texts."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    calibration: CalibrationMethod
    """What was asked for."""
    positives: tuple[int, ...]
    """Spans in gold, in label order."""
    spans: int
    """Spans that were found."""
    ece_before: Probability
    """Expected calibration error of the product of the tags' probabilities."""
    ece_after: Probability
    """Of calibrated scores, each span's by a fit without it."""
    brier_after: Probability


class SpanScores(F1Scores):
    """Scores of spans, which are right if start, end and label are, as in CoNLL 2003 and seqeval.

    macro_f1 is the mean over labels that gold or the answers have. spans: in gold.
    """

    spans: int
    precision: float
    recall: float


class TaggedSpan(NamedTuple):
    """A span of words before its score is calibrated.

    first, last: words, both inclusive. label: number of the label. logit: of the product of its
    tags' probabilities.
    """

    first: int
    last: int
    label: int
    logit: float


@dataclass(frozen=True)
class SpanHits:
    """Counts that add up. true_positives, decided, gold: (labels,) int64. rows: texts."""

    true_positives: Int64Array
    decided: Int64Array
    gold: Int64Array
    rows: int

    @classmethod
    def count(
        cls, gold: Sequence[Int64Array], decided: Sequence[Int64Array], labels: int
    ) -> SpanHits:
        """Compare spans of the same texts, each (spans, 3): start, end, number of the label."""
        counts = np.zeros((3, labels), np.int64)
        for theirs, ours in zip(gold, decided, strict=True):
            wanted, given = set(map(tuple, theirs.tolist())), set(map(tuple, ours.tolist()))
            for row, spans in enumerate((wanted & given, given, wanted)):
                for _, _, label in spans:
                    counts[row, label] += 1
        hits, given_spans, gold_spans = counts
        return cls(hits, given_spans, gold_spans, len(gold))

    def __add__(self, other: SpanHits) -> SpanHits:
        return SpanHits(
            *(getattr(self, one.name) + getattr(other, one.name) for one in fields(self))
        )

    def label_f1(self) -> Float64Array:
        """F1 of each label, (labels,) float64; 0 where neither side has it."""
        return np.asarray(2 * self.true_positives / np.maximum(self.decided + self.gold, 1))

    def scores(self) -> SpanScores:
        """Scores of everything counted so far."""
        hits, decided, gold = (
            int(counts.sum()) for counts in (self.true_positives, self.decided, self.gold)
        )
        seen = (self.decided + self.gold) > 0
        return SpanScores(
            rows=self.rows,
            micro_f1=2 * hits / max(decided + gold, 1),
            macro_f1=float(self.label_f1()[seen].mean()) if seen.any() else 0.0,
            spans=gold,
            precision=hits / max(decided, 1),
            recall=hits / max(gold, 1),
        )


def number_of_tags(labels: int) -> int:
    """Tags of so many labels."""
    return 1 + 2 * labels


def number_of_labels(tags: int) -> int:
    """Labels of so many tags."""
    return (tags - 1) // 2


def places_of(words: Words, spans: Iterable[tuple[int, int, int]]) -> Int64Array:
    """Spans of words as characters of the article's text, (spans, 3): start, end and label.

    spans: first word, last word and label of each.
    """
    starts, ends = words.starts[words.tokens], words.ends[words.tokens]
    placed = [(starts[first], ends[last], label) for first, last, label in spans]
    return np.array(placed, np.int64).reshape(-1, 3)


def tag_probabilities(logits: Float32Array) -> Float64Array:
    """Probabilities of tags, (words, tags) float64."""
    return np.asarray(np.exp(_log_softmax(logits)))


def word_tags(words: Words, spans: Int64Array) -> Int64Array:
    """Tag of each token, (tokens,) int64, IGNORED unless it is the first of a word.

    spans: (spans, 3) of start, end and label. A word belongs to a span if they share a character,
    and to the first of several; the longer of two that start together is the first.
    """
    tags = np.where(words.starts >= 0, OUTSIDE, IGNORED).astype(np.int64)
    tokens = words.tokens
    starts, ends = words.starts[tokens], words.ends[tokens]
    for start, end, label in sorted(spans.tolist(), key=lambda span: (span[0], -span[1])):
        inside = tokens[(starts < end) & (ends > start)]
        if len(inside) and (tags[inside] == OUTSIDE).all():
            tags[inside] = 2 + 2 * label
            tags[inside[0]] = 1 + 2 * label
    return tags


def tag_spans(logits: Float32Array, decoding: Decoding) -> list[TaggedSpan]:
    """Spans of a text. logits: (words, tags) float32. Depends on nothing else, to the bit."""
    if not len(logits):
        return []
    scores = _log_softmax(logits)
    tags = _viterbi(scores) if decoding == "viterbi" else scores.argmax(axis=1)
    return [
        TaggedSpan(first, last, label, _span_logit(scores, first, last, label))
        for first, last, label in spans_of_tags(tags.tolist())
    ]


def spans_of_tags(tags: Sequence[int]) -> list[tuple[int, int, int]]:
    """First word, last word and label of each span.

    A tag that continues no span of its label begins one, as in conlleval and seqeval.
    """
    spans: list[tuple[int, int, int]] = []
    open_label = None
    for word, tag in enumerate(tags):
        if tag == OUTSIDE:
            open_label = None
            continue
        label, continues = divmod(tag - 1, 2)
        if continues and label == open_label:
            spans[-1] = (spans[-1][0], word, label)
        else:
            spans.append((word, word, label))
        open_label = label
    return spans


def _log_softmax(logits: Float32Array) -> Float64Array:
    """Logarithms of the tags' probabilities, (words, tags) float64."""
    exact = np.ascontiguousarray(logits, np.float64)
    shifted = exact - exact.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))


def _viterbi(scores: Float64Array) -> npt.NDArray[np.int64]:
    """The most probable legal sequence of tags, (words,); of equals the one with lower numbers."""
    words, tags = scores.shape
    continues = np.arange(2, tags, 2)  # its own label begins at the tag before
    best = scores[0].copy()
    best[continues] = -np.inf
    came_from = np.zeros((words, tags), np.int64)
    for word in range(1, words):
        previous = int(best.argmax())
        from_start, from_inside = best[continues - 1], best[continues]
        came_from[word] = previous
        came_from[word, continues] = np.where(from_start >= from_inside, continues - 1, continues)
        reached = np.full(tags, best[previous])
        reached[continues] = np.maximum(from_start, from_inside)
        best = reached + scores[word]
    path = np.zeros(words, np.int64)
    path[-1] = int(best.argmax())
    for word in range(words - 1, 0, -1):
        path[word - 1] = came_from[word, path[word]]
    return path


def _span_logit(scores: Float64Array, first: int, last: int, label: int) -> float:
    """Logit of the probability that the tags of a span are right, and that it ends there."""
    begin, inside = 1 + 2 * label, 2 + 2 * label
    logarithm = np.logaddexp(scores[first, begin], scores[first, inside])
    logarithm += scores[first + 1 : last + 1, inside].sum()
    if last + 1 < len(scores):
        logarithm += np.log1p(-min(np.exp(scores[last + 1, inside]), 1 - 1e-12))
    probability = min(max(float(np.exp(logarithm)), 1e-12), 1 - 1e-12)
    return float(np.log(probability) - np.log1p(-probability))
