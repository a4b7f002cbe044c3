"""Same article, same score, to the last bit: in any batch, order, chunk and thread count."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batch.machine.device import Device
from batch.scoring.scorer import Scorer, open_scorer
from schemas.bundle.folder import Bundle
from schemas.text.model_text import Article, ModelText, model_text
from schemas.text.tokens import TEXTS_PER_CALL
from tests.label_tasks import label_sets

Write = Callable[..., Path]
Score = Callable[..., pa.Table]
Bits = dict[str, tuple[bytes, tuple[str, ...], int]]

FEW = settings(max_examples=15, deadline=None)


def bits(scored: pa.Table) -> Bits:
    """By article: the bytes of its float32 probabilities, its labels, its tokens."""
    maps = scored.column("probabilities").to_pylist()
    matrix = [np.array([value for _, value in row or ()], np.float32) for row in maps]
    names = scored.column("article_id").to_pylist()
    labels = [tuple(found) for found in scored.column("labels").to_pylist()]
    tokens = scored.column("tokens").to_pylist()
    rows = zip(names, matrix, labels, tokens, strict=True)
    return {name: (row.tobytes(), found, count) for name, row, found, count in rows}


@pytest.fixture
def alone(sample: pa.Table, write: Write, score: Score) -> Bits:
    """The scores of the sample in its own order."""
    return bits(score(write(sample, "alone.parquet")))


def test_articles_differ(alone: Bits) -> None:
    """The promises below mean something: every article has scores of its own, of many lengths."""
    assert len({scores for scores, _, _ in alone.values()}) == len(alone) == 48
    assert len({tokens for _, _, tokens in alone.values()}) > 20


@pytest.mark.parametrize(
    "options",
    [
        {"chunk_rows": 7},
        {"chunk_rows": 50},
        {"chunk_rows": 1},
        {"threads": 1},
        {"threads": 2},
        {"threads": 1, "chunk_rows": 5},
        {"gold_column": "narratives", "keep_text": True},
    ],
    ids=str,
)
def test_options_do_not_change_a_score(
    sample: pa.Table, write: Write, score: Score, alone: Bits, options: dict[str, Any]
) -> None:
    """Chunk size, threads, gold labels and kept text leave every bit as it is."""
    assert bits(score(write(sample), **options)) == alone


@pytest.mark.parametrize("seed", range(2))
def test_order_does_not_change_a_score(
    sample: pa.Table, write: Write, score: Score, alone: Bits, seed: int
) -> None:
    """Shuffled rows, in other row groups and chunks, keep their scores."""
    rows = random.Random(seed).sample(range(48), 48)
    shuffled = write(sample.take(rows), row_group_size=9)

    assert bits(score(shuffled, chunk_rows=10 + seed)) == alone


def test_neighbours_do_not_change_a_score(
    sample: pa.Table, write: Write, score: Score, alone: Bits
) -> None:
    """A third of the corpus, and rows among blank, damaged and giant texts, score the same."""
    subset = bits(score(write(sample.take(list(range(0, 48, 3))))))
    texts = [text.encode() for text in sample.column("text").to_pylist()]
    texts[1::4] = [b"", b"\xff", b"word " * 50_000] * 4
    disturbed = sample.set_column(2, "text", pa.array(texts))
    kept = bits(score(write(disturbed), max_quarantined=1, chunk_rows=13))

    assert subset == {name: alone[name] for name in subset}
    assert all(kept[name] == alone[name] for name in sample.column("article_id").to_pylist()[::2])


def test_copies_of_a_row_score_the_same(
    sample: pa.Table, write: Write, score: Score, alone: Bits
) -> None:
    """Within a chunk, where a text is scored once, and across chunks."""
    rows = [row for row in range(48) for _ in range(1 + row % 3)]
    scored = score(write(sample.take(rows)), chunk_rows=20)
    whole = [bits(scored.slice(place, 1)) for place in range(len(rows))]

    assert all(alone[name] == found for row in whole for name, found in row.items())


def test_two_files_score_like_one(
    sample: pa.Table, write: Write, score: Score, alone: Bits
) -> None:
    """How a corpus is cut into files does not matter."""
    first, second = write(sample.slice(0, 11), "1.parquet"), write(sample.slice(11), "2.parquet")

    assert bits(score(second, first)) == alone


@pytest.fixture(scope="module")
def scorer(bundle: Path) -> Scorer:
    """The tiny bundle's task `narrative`, opened as a run opens it."""
    return open_scorer(
        Bundle.open(bundle), ("narrative",), Device("cpu", 0, "test"), precision="fp32", threads=1
    )


@pytest.fixture(scope="module")
def texts(sample: pa.Table, scorer: Scorer) -> list[ModelText]:
    """What the model reads of the sample, and a few texts of extreme length."""
    spec, max_tokens = scorer.metadata.text, scorer.metadata.max_tokens
    bodies = [*sample.column("text").to_pylist(), "a", "\u200b", "war " * 5000]
    return [model_text(Article(body), spec, max_tokens=max_tokens) for body in bodies]


@pytest.fixture(scope="module")
def one_by_one(texts: list[ModelText], scorer: Scorer) -> list[bytes]:
    """The bytes of each text's probabilities when it is scored alone."""
    return [label_sets(scorer.score([text])).probabilities.tobytes() for text in texts]


@FEW
@given(rows=st.lists(st.integers(0, 50), min_size=1, max_size=60))
def test_a_text_scores_as_if_it_were_alone(
    rows: list[int], texts: list[ModelText], scorer: Scorer, one_by_one: list[bytes]
) -> None:
    """Whatever texts, in whatever order and number, are scored together."""
    probabilities = label_sets(scorer.score([texts[row] for row in rows])).probabilities

    assert [row.tobytes() for row in probabilities] == [one_by_one[row] for row in rows]


def test_no_texts_give_no_rows(scorer: Scorer) -> None:
    """An empty chunk is nothing special."""
    scored = scorer.score([])

    assert label_sets(scored).probabilities.shape == (0, len(scorer.metadata.labels))
    assert scored.tokens.shape == (0,)


def test_every_row_is_reported_once(texts: list[ModelText], scorer: Scorer) -> None:
    """Progress counts rows and tokens of texts, copies included, and no dummy rows."""
    seen: list[tuple[int, int]] = []
    scored = scorer.score([*texts, *texts[:5]], on_batch=lambda *counts: seen.append(counts))

    assert sum(rows for rows, _ in seen) == len(texts) + 5
    assert sum(tokens for _, tokens in seen) == int(scored.tokens[: len(texts)].sum())


def test_a_stop_between_batches_reaches_the_caller(texts: list[ModelText], scorer: Scorer) -> None:
    """What `on_batch` raises ends the scoring."""

    def stop(rows: int, tokens: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        scorer.score(texts, on_batch=stop)


def test_tokenizing_ahead_of_a_gpu_changes_nothing(bundle: Path, texts: list[ModelText]) -> None:
    """Two threads take turns at groups of texts; tokens come out in order, as on a CPU."""
    cpu = Device("cpu", 0, "test")
    runner = open_scorer(
        Bundle.open(bundle), ("narrative",), cpu, precision="fp32", threads=1
    ).runner
    many = [ModelText(f"{number} {text.text}", text.cut) for number in range(8) for text in texts]
    expected = runner.tokenize(many)
    runner.device = Device("cuda", 0, "test")
    tokenized = runner.tokenize(many)

    assert len(many) > 3 * TEXTS_PER_CALL
    assert [text.truncated for text in tokenized] == [text.truncated for text in expected]
    assert [text.ids.tolist() for text in tokenized] == [text.ids.tolist() for text in expected]
