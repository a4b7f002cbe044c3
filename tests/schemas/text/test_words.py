"""Words of a text lead back to the characters of the article."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, trainers

from schemas.text.model_text import MARKERS, Article, TextSpec, model_text
from schemas.text.tokens import TextTokenizer, TokenizedText
from tests.strategies import STEADY, bodies, texts

SHARED = settings(STEADY, suppress_health_check=[HealthCheck.function_scoped_fixture])


def read(tokenizer: Tokenizer, article: Article, *, max_tokens: int = 64) -> TokenizedText:
    """An article as a task that finds spans reads it."""
    copied = Tokenizer.from_str(tokenizer.to_str())
    copied.add_tokens([AddedToken(marker, normalized=False) for marker in MARKERS])
    text = model_text(article, TextSpec(), max_tokens=max_tokens, keep_source=True)
    (tokenized,) = TextTokenizer(copied, max_tokens=max_tokens).encode([text])
    return tokenized


def words_of(text: TokenizedText) -> list[str]:
    """The characters of each word."""
    assert text.words is not None
    found = text.words
    return [found.source[found.starts[token] : found.ends[token]] for token in found.tokens]


@SHARED
@given(body=bodies(), title=st.none() | texts(), max_tokens=st.integers(4, 40))
def test_words_are_those_of_the_text_in_order(
    tokenizer: Tokenizer, body: str, title: str | None, max_tokens: int
) -> None:
    """Without overlaps, none of the title, and ids as without words."""
    article = Article(body, title=title)
    tokenized = read(tokenizer, article, max_tokens=max_tokens)
    words = tokenized.words
    assert words is not None
    starts, ends = words.starts[words.tokens], words.ends[words.tokens]
    plain = model_text(article, TextSpec(), max_tokens=max_tokens)
    copied = Tokenizer.from_str(tokenizer.to_str())
    copied.add_tokens([AddedToken(marker, normalized=False) for marker in MARKERS])
    (without,) = TextTokenizer(copied, max_tokens=max_tokens).encode([plain])

    assert words.source == body
    assert len(words.starts) == len(tokenized.ids)
    assert (starts < ends).all()
    assert (starts[1:] >= ends[:-1]).all()
    assert tokenized.ids.tolist() == without.ids.tolist()


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("The grain, the oil.", ["The", "grain", ",", "the", "oil", "."]),
        ("  grain\n\noil ", ["grain", "oil"]),
        ("Café Cafe\u0301 oil", ["Café", "Cafe\u0301", "oil"]),
        (
            "\U0001f600 grain \U0001f600\U0001f600 oil",
            ["\U0001f600", "grain", "\U0001f600\U0001f600", "oil"],
        ),
        ("grain [ENTITY] oil", ["grain", "[", "ENTITY", "]", "oil"]),
        ("grain" + " " * 4000 + "oil", ["grain", "oil"]),
        ("新闻 oil", ["新", "闻", "oil"]),
    ],
    ids=["plain", "blanks", "accents", "beyond 16 bits", "markers", "long blanks", "Chinese"],
)
def test_characters_of_words(tokenizer: Tokenizer, body: str, expected: list[str]) -> None:
    """Offsets count characters, and combining ones belong to the letter before."""
    found = words_of(read(tokenizer, Article(body, title="A title of oil")))

    assert found == expected


def test_byte_level_words_leave_out_the_blank_before() -> None:
    """Tokens of RoBERTa include it."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=300, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(["the oil and the grain"], trainer)
    text = model_text(Article("the oil é 新"), TextSpec(), max_tokens=64, keep_source=True)
    (tokenized,) = TextTokenizer(tokenizer, max_tokens=64).encode([text])

    assert words_of(tokenized) == ["the", "oil", "é", "新"]


def test_texts_without_a_source_have_no_words(tokenizer: Tokenizer) -> None:
    """Nothing is kept for tasks that do not need it."""
    text = model_text(Article("grain"), TextSpec(), max_tokens=8)
    (tokenized,) = TextTokenizer(Tokenizer.from_str(tokenizer.to_str()), max_tokens=8).encode(
        [text]
    )

    assert tokenized.words is None
