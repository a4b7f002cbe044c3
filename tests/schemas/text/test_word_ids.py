"""Token ids that are joined from those of words are those of the tokenizer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers

from schemas.arrays import Int32Array
from schemas.text.model_text import MARKERS
from schemas.text.tokens import treats_words_alone
from schemas.text.word_ids import BYTES_PER_WORD, WordIds
from tests.strategies import STEADY, texts

SHARED = settings(STEADY, suppress_health_check=[HealthCheck.function_scoped_fixture])
BLANKS = st.text(" \n\t\r\u00a0\u2028\u3000\x00\x1c\u200b", max_size=3)
ODD = st.text("aÄ\u0301\u0323ß中.,-'[]#\U0001f600\u0130\u03a3", max_size=6)


def odd_texts() -> st.SearchStrategy[str]:
    """Combining characters, controls, and characters that become several, among odd blanks."""
    pieces = st.one_of(BLANKS, ODD, st.sampled_from(["[SEP]", "[UNK]", *MARKERS]))
    return st.lists(pieces, max_size=30).map("".join)


def marked(tokenizer: Tokenizer) -> Tokenizer:
    """A copy with markers, to which special tokens are plain text."""
    copied = Tokenizer.from_str(tokenizer.to_str())
    copied.add_tokens([AddedToken(marker, normalized=False) for marker in MARKERS])
    copied.encode_special_tokens = True
    return copied


def tokenize_with(tokenizer: Tokenizer) -> Callable[[Sequence[str]], Iterator[Int32Array]]:
    """The whole of each text by the tokenizer itself."""

    def tokenize(given_texts: Sequence[str]) -> Iterator[Int32Array]:
        for encoding in tokenizer.encode_batch_fast(list(given_texts), add_special_tokens=False):
            yield np.array(encoding.ids, np.int32)

    return tokenize


def as_lists(ids: Iterator[Int32Array]) -> list[list[int]]:
    """Ids of each text."""
    return [one.tolist() for one in ids]


@SHARED
@given(given_texts=st.lists(st.one_of(texts(), odd_texts()), max_size=5))
def test_ids_are_those_of_the_whole_text(tokenizer: Tokenizer, given_texts: list[str]) -> None:
    """Also of texts that repeat words of others."""
    ours = marked(tokenizer)
    tokenize = tokenize_with(ours)
    words = WordIds(tokenize)
    expected = as_lists(tokenize(given_texts))

    assert treats_words_alone(ours)
    assert as_lists(words.of_texts(given_texts)) == expected
    assert as_lists(words.of_texts(given_texts[::-1])) == expected[::-1]


def test_a_word_is_tokenized_once(tokenizer: Tokenizer) -> None:
    """Texts of known words never reach the tokenizer."""
    asked: list[str] = []
    tokenize = tokenize_with(tokenizer)

    def counting(words: Sequence[str]) -> Iterator[Int32Array]:
        asked.extend(words)
        return tokenize(words)

    words = WordIds(counting)
    list(words.of_texts(["the port and the grain", "grain\nand oil"]))
    list(words.of_texts(["oil and the port"]))

    assert sorted(asked) == ["and", "grain", "oil", "port", "the"]


def test_words_are_forgotten_at_the_limit(tokenizer: Tokenizer) -> None:
    """Memory stays bounded, and ids do not change."""
    tokenize = tokenize_with(tokenizer)
    words = WordIds(tokenize, max_bytes=10 * BYTES_PER_WORD)
    most = 0
    for number in range(200):
        (ids,) = words.of_texts([f"ship {number} left the port"])
        most = max(most, len(words))
        assert [ids.tolist()] == as_lists(tokenize([f"ship {number} left the port"]))

    assert 4 <= most <= 10


def test_several_threads_share_the_words(tokenizer: Tokenizer) -> None:
    """Even while others forget them."""
    tokenize = tokenize_with(tokenizer)
    words = WordIds(tokenize, max_bytes=20 * BYTES_PER_WORD)
    many = [f"ship {number % 40} left port {number % 7}" for number in range(400)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda text: as_lists(words.of_texts([text]))[0], many))

    assert found == as_lists(tokenize(many))


@pytest.mark.parametrize(
    "token",
    [
        AddedToken("of the", normalized=False),
        AddedToken("line\nend", normalized=False),
        AddedToken("port", lstrip=True),
        AddedToken("port", rstrip=True),
        AddedToken("port", single_word=True),
    ],
    ids=str,
)
def test_tokens_that_reach_beyond_a_word_are_respected(
    tokenizer: Tokenizer, token: AddedToken
) -> None:
    """A tokenizer with such a token gets whole texts."""
    copied = Tokenizer.from_str(tokenizer.to_str())
    copied.add_tokens([token])

    assert treats_words_alone(tokenizer)
    assert not treats_words_alone(copied)


def test_other_tokenizers_get_whole_texts() -> None:
    """Pieces of SentencePiece include the blank before a word."""
    unigram = Tokenizer(models.Unigram([("▁a", -1.0), ("b", -2.0), ("<unk>", 0.0)], unk_id=2))
    unigram.pre_tokenizer = pre_tokenizers.Metaspace()

    assert not treats_words_alone(unigram)
