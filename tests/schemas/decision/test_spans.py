"""Tags, spans and their scores, compared with seqeval."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from seqeval.metrics import classification_report

from schemas.arrays import Int64Array
from schemas.decision.spans import (
    IGNORED,
    SpanHits,
    number_of_tags,
    spans_of_tags,
    tag_spans,
    word_tags,
)
from schemas.text.words import Words
from tests.strategies import STEADY

LABELS = ("LOC", "ORG", "PER")
TAGS = number_of_tags(len(LABELS))
Sequences = list[list[int]]


def tag_name(tag: int) -> str:
    """The tag as CoNLL files have it."""
    return "O" if tag == 0 else ("B-" if tag % 2 else "I-") + LABELS[(tag - 1) // 2]


def as_array(tags: list[int]) -> Int64Array:
    """Spans of words, (spans, 3)."""
    return np.array(spans_of_tags(tags), np.int64).reshape(-1, 3)


def pairs_of_sequences() -> st.SearchStrategy[list[tuple[list[int], list[int]]]]:
    """Gold and predicted tags of some sentences; any sequence, legal or not."""
    tags = st.integers(0, TAGS - 1)
    pairs = st.integers(1, 8).flatmap(
        lambda words: st.tuples(
            st.lists(tags, min_size=words, max_size=words),
            st.lists(tags, min_size=words, max_size=words),
        )
    )
    return st.lists(pairs, min_size=1, max_size=5)


@STEADY
@given(pairs=pairs_of_sequences())
def test_scores_are_those_of_seqeval(pairs: list[tuple[list[int], list[int]]]) -> None:
    """Precision, recall and F1 of every label, micro and macro, for any sequence of tags."""
    gold, decided = ([pair[side] for pair in pairs] for side in (0, 1))
    hits = SpanHits.count(list(map(as_array, gold)), list(map(as_array, decided)), len(LABELS))
    named = ([[tag_name(tag) for tag in tags] for tags in side] for side in (gold, decided))
    if not (hits.gold.any() or hits.decided.any()):
        return  # seqeval has no report of nothing
    report = classification_report(*named, output_dict=True, zero_division=0)
    scores = hits.scores()

    assert scores.micro_f1 == pytest.approx(report["micro avg"]["f1-score"])
    assert scores.precision == pytest.approx(report["micro avg"]["precision"])
    assert scores.recall == pytest.approx(report["micro avg"]["recall"])
    assert scores.macro_f1 == pytest.approx(report["macro avg"]["f1-score"])
    for label, f1 in zip(LABELS, hits.label_f1(), strict=True):
        assert f1 == pytest.approx(report.get(label, {"f1-score": 0.0})["f1-score"])


@STEADY
@given(words=st.integers(1, 5), seed=st.integers(0, 1000))
def test_viterbi_finds_the_most_probable_legal_sequence(words: int, seed: int) -> None:
    """Against every sequence that there is, for one label."""
    logits = np.random.default_rng(seed).normal(size=(words, 3)).astype(np.float32)
    scores = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    legal = [
        tags
        for tags in product(range(3), repeat=words)
        if all(tag != 2 or before for before, tag in zip((0, *tags), tags, strict=False))
    ]
    best = max(legal, key=lambda tags: sum(scores[word, tag] for word, tag in enumerate(tags)))
    found = [(one.first, one.last, one.label) for one in tag_spans(logits, "viterbi")]

    assert found == spans_of_tags(best)


def test_repair_begins_a_span_where_a_tag_continues_none() -> None:
    """I-ORG at the beginning, and after a location."""
    logits = np.full((4, TAGS), -5.0, np.float32)
    for word, tag in enumerate((4, 4, 1, 4)):
        logits[word, tag] = 5.0

    assert [span[:3] for span in tag_spans(logits, "repair")] == [(0, 1, 1), (2, 2, 0), (3, 3, 1)]


def test_surer_tags_give_a_higher_score() -> None:
    """The score falls with the probability of a tag inside, and of the tag behind the span."""
    logits = np.zeros((3, TAGS), np.float32)
    logits[0, 1], logits[1, 2], logits[2, 0] = 6.0, 6.0, 6.0
    (sure,) = tag_spans(logits, "viterbi")
    doubtful_inside, doubtful_end = logits.copy(), logits.copy()
    doubtful_inside[1, 0] = 5.0
    doubtful_end[2, 2] = 5.0

    for doubtful in (doubtful_inside, doubtful_end):
        (span,) = tag_spans(doubtful, "viterbi")
        assert span[:3] == sure[:3]
        assert span.logit < sure.logit


def test_words_get_the_tags_of_gold_spans() -> None:
    """The first word begins a span; of overlapping spans the first counts, then the longest."""
    starts = np.array([-1, 0, 4, -1, 9, 13, -1], np.int32)
    ends = np.array([-1, 3, 8, -1, 12, 20, -1], np.int32)
    words = Words(starts, ends, "")
    spans = np.array([(4, 12, 1), (4, 8, 0), (10, 20, 2)], np.int64)

    assert word_tags(words, spans).tolist() == [IGNORED, 0, 3, IGNORED, 4, 0, IGNORED]
    assert word_tags(words, spans[:0]).tolist() == [IGNORED, 0, 0, IGNORED, 0, 0, IGNORED]
