"""What the lexical term promises: a linear classifier over TF-IDF, as scikit-learn has it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.svm import LinearSVC
from torch import Tensor

from schemas.arrays import BoolArray, Int32Array
from trainer.model import lexical
from trainer.model.lexical import (
    MOST_WEIGHT,
    USUAL_WEIGHT,
    LexicalTerm,
    Vocabulary,
    fit,
    term_weight,
)

TOKENS, LABELS = 40, 3


def random_texts(count: int, *, seed: int = 0) -> list[Int32Array]:
    """Texts of 3 to 30 tokens, some of them several times."""
    rng = np.random.default_rng(seed)
    return [
        rng.integers(TOKENS, size=length).astype(np.int32) for length in rng.integers(3, 31, count)
    ]


def gold_of(texts: list[Int32Array]) -> BoolArray:
    """Labels that tokens give away, and one that a pair does."""
    return np.array(
        [[3 in text, bool({5, 7} & set(text.tolist())), any(np.diff(text) == 1)] for text in texts]
    )


@pytest.fixture
def fitted() -> LexicalTerm:
    """A term that was trained on 200 texts."""
    texts = random_texts(200)
    term = LexicalTerm(LABELS)
    fit(term, texts, gold_of(texts))
    return term


def alone(term: LexicalTerm, text: Int32Array) -> Tensor:
    """The term of one text without padding, (labels,)."""
    ids = torch.from_numpy(text.astype(np.int64)).unsqueeze(0)
    of_rows: Tensor = term(ids, torch.ones_like(ids))
    return of_rows[0]


def test_it_is_a_support_vector_machine_over_tfidf(fitted: LexicalTerm) -> None:
    """Margins are those of scikit-learn's vectorizer and classifier on the same features."""
    texts, others = random_texts(200), random_texts(50, seed=1)
    vocabulary = Vocabulary.of_texts(texts)
    names = [
        *map(str, vocabulary.singles),
        *(f"{first} {second}" for first, second in vocabulary.pairs),
    ]
    vectorizer = TfidfVectorizer(
        vocabulary=sorted(names), ngram_range=(1, 2), token_pattern=r"\S+", sublinear_tf=True
    )
    spoken, unseen = (
        [" ".join(map(str, text.tolist())) for text in part] for part in (texts, others)
    )
    matrix = vectorizer.fit_transform(spoken)

    every = {name for text in spoken for name in vectorizer.build_analyzer()(text)}
    assert len(names) > 0.9 * len(every)  # some share a slot of the hash table
    for label, has in enumerate(gold_of(texts).T):
        machine = LinearSVC(random_state=0, tol=1e-6).fit(matrix, has)
        margins = machine.decision_function(vectorizer.transform(unseen))
        ours = [alone(fitted, text)[label].item() for text in others]
        assert ours == pytest.approx(margins, abs=2e-3)


def test_padding_and_other_rows_change_nothing(fitted: LexicalTerm) -> None:
    """A text in a batch has the numbers that it has alone, even if padding is a known token."""
    texts = random_texts(20, seed=2)
    padded, mask = torch.full((20, 40), 3), torch.zeros(20, 40, dtype=torch.int64)
    for row, text in enumerate(texts):
        padded[row, : len(text)] = torch.from_numpy(text)
        mask[row, : len(text)] = 1

    for row, text in zip(fitted(padded, mask), texts, strict=True):
        torch.testing.assert_close(row, alone(fitted, text))


def test_unknown_tokens_add_nothing(fitted: LexicalTerm) -> None:
    """A text of tokens that training never saw has the constants, whatever slots they hash to."""
    unknown = np.arange(TOKENS, TOKENS + 5_000, dtype=np.int32)

    torch.testing.assert_close(alone(fitted, unknown), fitted.bias)


def test_the_most_frequent_features_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there are too many features, those of few texts are left out."""
    monkeypatch.setattr(lexical, "MOST_FEATURES", 10)
    texts = [np.array([1, 2, 3, 100 + row], np.int32) for row in range(50)]
    vocabulary = Vocabulary.of_texts(texts)

    assert {*vocabulary.singles} >= {1, 2, 3}
    assert {*vocabulary.pairs} >= {(1, 2), (2, 3)}
    assert len(vocabulary.singles) + len(vocabulary.pairs) <= 10


def test_a_label_that_all_rows_have_is_a_constant() -> None:
    """Neither a label of all rows nor one of none stops the others from being trained."""
    texts = random_texts(30)
    gold = np.stack([np.ones(30, bool), np.zeros(30, bool), gold_of(texts)[:, 0]], axis=1)
    term = LexicalTerm(LABELS)
    fit(term, texts, gold)
    always, never, _ = alone(term, texts[0]).tolist()

    assert (always, never) == (1.0, -1.0)
    assert term.weights[:, 2].abs().sum() > 0


def test_a_stored_term_is_loaded_whole(fitted: LexicalTerm) -> None:
    """A new term takes the features of a stored one, as many as there are."""
    loaded = LexicalTerm(LABELS)
    loaded.load_state_dict(fitted.state_dict())

    assert torch.equal(alone(loaded, random_texts(1)[0]), alone(fitted, random_texts(1)[0]))


def test_held_out_rows_decide_how_much_it_counts() -> None:
    """A term that is right counts more than usual, one that is noise counts less."""
    rng = np.random.default_rng(0)
    gold = rng.random((400, LABELS)) < 0.3
    sign = np.where(gold, 1.0, -1.0).astype(np.float32)
    noise = rng.normal(size=gold.shape).astype(np.float32)

    helpful = term_weight(noise, sign + 0.1 * noise, gold)
    useless = term_weight(sign + 0.5 * noise, rng.normal(size=gold.shape).astype(np.float32), gold)
    harmful = term_weight(sign + 0.5 * noise, -sign, gold)
    assert MOST_WEIGHT >= helpful > USUAL_WEIGHT > useless >= 0
    assert harmful < USUAL_WEIGHT


@pytest.mark.parametrize("gold", [np.zeros((4, 2), bool), np.ones((4, 2), bool)])
def test_without_evidence_it_counts_as_usual(gold: BoolArray) -> None:
    """Held-out rows that have no label, or all of them, say nothing."""
    outputs = np.ones(gold.shape, np.float32)

    assert term_weight(outputs, outputs, gold) == USUAL_WEIGHT
