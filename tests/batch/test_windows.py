"""Texts that are longer than the model reads at once, in windows, by a task of every kind."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from click.testing import CliRunner, Result
from tokenizers import Tokenizer

from batch.kinds.multilabel import LabelTaskReport
from exporter.bundle.inspection import BundleReport
from exporter.cli import main as export_classifier
from narrascan import Article, Scorer
from schemas.bundle.folder import Bundle
from schemas.decision.decide import calibrate
from schemas.kinds import KINDS
from schemas.kinds.multilabel import MultilabelDecision
from schemas.text.model_text import model_text
from tests.tiny import KINDS_TASKS, SAMPLES, entity_column, write_config
from trainer.checkpoint.reader import Checkpoint
from trainer.cli import main as train_classifier

Score = Callable[..., pa.Table]
Write = Callable[..., Path]

TASKS = ("narrative", "outlet", "vectors", "topic", "names")
WINDOWS = "{ tokens = 32, stride = 20, max_windows = 6"
MOST_TOKENS = 32 + 5 * 20
NAMED = re.compile(r"(\[tasks\.(\w+)\]\n)")


def run(command: Any, *words: object) -> Result:
    """Call a command line, and expect exit 0."""
    result = CliRunner().invoke(command, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    return result


def windowed(match: re.Match[str]) -> str:
    """The head of a task's section, with windows where it may have them."""
    if match[2] == "entity_framing":
        return match[1]
    pooling = {"narrative": ', pooling = "lse"', "outlet": ', pooling = "max"'}.get(match[2], "")
    return f"{match[1]}windows = {WINDOWS}{pooling} }}\n"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, encoder: Path) -> Path:
    """A checkpoint with tasks of every kind, which read in windows of 32 tokens."""
    folder = tmp_path_factory.mktemp("windows")
    config = write_config(folder / "config.toml", encoder, epochs=2, extra=KINDS_TASKS)
    config.write_text(NAMED.sub(windowed, config.read_text()))
    run(train_classifier, config, "--output", folder / "checkpoint")
    return folder / "checkpoint"


@pytest.fixture(scope="module")
def windows_bundle(trained: Path) -> Path:
    """Its bundle in fp32."""
    folder = trained.parent / "bundle"
    run(export_classifier, trained, "--output", folder, "--precision", "fp32")
    return folder


@pytest.fixture(scope="module")
def articles() -> pa.Table:
    """24 articles of one window, of several, and of more than are read."""
    table = pq.read_table(SAMPLES / "articles.parquet").slice(0, 24)
    rng = random.Random(5)
    texts = [f"{text} {text}"[: rng.choice([60, 300, 700])] for text in table["text"].to_pylist()]
    return pa.table(
        {
            "article_id": table["article_id"].cast(pa.string()),
            "title": table["title"].cast(pa.string()),
            "text": pa.array(texts),
            "domain": table["domain"].cast(pa.string()),
            "narratives": table["narratives"].cast(pa.list_(pa.string())),
            "entities": entity_column(texts, ["the"] * len(texts)),
        }
    )


@pytest.fixture
def options(windows_bundle: Path) -> dict[str, Any]:
    """Options of a run over one task of each kind, with gold."""
    gold = ["narrative=narratives", "outlet=domain", "topic=narratives", "names=entities"]
    return {"task": ",".join(TASKS), "bundle": windows_bundle, "gold_column": gold}


def by_article(scored: pa.Table) -> Mapping[str, tuple[object, ...]]:
    """Everything that a task adds, by article; floats are equal only if their bits are."""
    names = [name for name in scored.column_names if name.startswith(TASKS)]
    columns = [map(repr, scored[name].to_pylist()) for name in [*names, "status", "tokens"]]
    ids = scored["article_id"].to_pylist()
    return dict(zip(ids, zip(*columns, strict=True), strict=True))


def test_every_kind_reads_in_windows(windows_bundle: Path) -> None:
    """Tasks with the same windows share a graph, whatever their pooling; the card has both."""
    tasks = BundleReport.of(windows_bundle).tasks
    (shared,) = Bundle.open(windows_bundle).manifest.shared
    card = (windows_bundle / "MODEL_CARD.md").read_text()

    assert {tasks[name].kind for name in TASKS} == set(KINDS)
    assert set(shared.tasks) == set(TASKS)
    assert "long texts in windows of 32 tokens, each 20 after the one before" in card
    assert "whose outputs are pooled (lse)" in card
    assert "problem" not in run(export_classifier, "verify", windows_bundle).output


def test_status_says_how_a_text_was_read(
    articles: pa.Table,
    write: Write,
    score: Score,
    options: dict[str, Any],
    tmp_path: Path,
    tokenizer: Tokenizer,
) -> None:
    """At once, in windows, or in part; the report and run.json count them."""
    scored = score(write(articles), **options, output=tmp_path / "scored")
    statuses = scored["status"].to_pylist()
    whole = [
        len(tokenizer.encode(f"{title}\n\n{text}").ids)
        for title, text in zip(
            articles["title"].to_pylist(), articles["text"].to_pylist(), strict=True
        )
    ]
    expected = [
        "ok" if tokens <= 32 else "windowed" if tokens <= MOST_TOKENS else "truncated"
        for tokens in whole
    ]
    reports = json.loads((tmp_path / "scored" / "report.json").read_text())["tasks"]
    report = LabelTaskReport.model_validate(reports["narrative"])
    counts = json.loads((tmp_path / "scored" / "run.json").read_text())["counts"]

    assert set(expected) == {"ok", "windowed", "truncated"}
    assert statuses == expected
    assert scored["tokens"].to_pylist() == [min(tokens, MOST_TOKENS) for tokens in whole]
    assert report.overall.windowed == counts["windowed"] == statuses.count("windowed")
    assert report.overall.scored == len(articles)
    assert "read in windows" in (tmp_path / "scored" / "report.html").read_text()


@pytest.mark.parametrize(
    "changes",
    [{"chunk_rows": 5}, {"threads": 2, "max_tokens_per_batch": 512}, {"cache": True}],
    ids=str,
)
def test_windows_do_not_depend_on_their_batches(
    articles: pa.Table,
    write: Write,
    score: Score,
    options: dict[str, Any],
    changes: dict[str, Any],
    tmp_path: Path,
) -> None:
    """Every bit is the same in another order, by other chunks and threads, and from a cache."""
    if "cache" in changes:
        changes = {"cache": tmp_path / "cache"}
        score(write(articles.slice(3, 9), "few.parquet"), **options, **changes)
    expected = by_article(score(write(articles), **options))
    rows = random.Random(3).sample(range(len(articles)), len(articles))
    corpus = write(articles.take(rows), "shuffled.parquet")

    assert by_article(score(corpus, **options, **changes)) == expected


def test_scores_are_those_of_torch_by_hand(
    articles: pa.Table, write: Write, score: Score, trained: Path, windows_bundle: Path
) -> None:
    """`lse` over the logits of windows, then calibration, as the definitions say."""
    checkpoint = Checkpoint.open(trained)
    metadata = BundleReport.of(windows_bundle).tasks["narrative"]
    calibration = MultilabelDecision.model_validate(metadata, from_attributes=True).calibration
    scored = score(write(articles), task="narrative", bundle=windows_bundle)
    path = checkpoint.model.path("narrative")
    for text, title, row in zip(
        articles["text"].to_pylist(),
        articles["title"].to_pylist(),
        scored["probabilities"].to_pylist(),
        strict=True,
    ):
        article = Article(text, title=title)
        spec = model_text(article, metadata.text, max_tokens=MOST_TOKENS)
        ids = checkpoint.tokenizer.encode(spec.text).ids[1:-1][: MOST_TOKENS - 2]
        starts = [0] if len(ids) <= 30 else [*range(0, len(ids) - 30, 20), len(ids) - 30]
        logits = []
        for start in starts:
            window = torch.tensor([[2, *ids[start : start + 30], 3]])
            with torch.inference_mode():
                logits.append(path(window, torch.ones_like(window))[0].numpy())
        pooled = np.log(np.exp(np.stack(logits).astype(np.float64)).mean(axis=0))
        expected = calibrate(pooled[None].astype(np.float32), calibration)[0]

        assert [value for _, value in row] == pytest.approx(expected.tolist(), abs=1e-4)


def test_vectors_of_long_texts_have_length_1(
    articles: pa.Table, write: Write, score: Score, options: dict[str, Any]
) -> None:
    """As those of short ones: a dot product stays a cosine."""
    scored = score(write(articles), **options)
    vectors = np.stack(scored["vectors_embedding"].to_pylist())

    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1.0, abs=1e-5)


def test_spans_are_those_of_the_whole_text(
    articles: pa.Table, write: Write, score: Score, options: dict[str, Any]
) -> None:
    """Behind the first window too, in order, without overlaps, and as their characters say."""
    scored = score(write(articles), **options)
    last = 0
    for text, entities in zip(
        articles["text"].to_pylist(), scored["names_entities"].to_pylist(), strict=True
    ):
        assert all(text[one["start"] : one["end"]] == one["text"] for one in entities)
        for one, other in pairwise(entities):
            assert one["end"] <= other["start"]
        last = max([last, *(one["start"] for one in entities)])

    assert last > 250  # characters; a window has about 120


def test_neighbours_of_a_text_are_those_of_its_windows(
    articles: pa.Table, write: Write, score: Score, windows_bundle: Path
) -> None:
    """Seven different ones, the nearest first; votes are the same with and without them."""
    options = {"task": "topic", "bundle": windows_bundle}
    scored = score(write(articles), **options, neighbours=True)
    alone = score(write(articles), **options)
    for named in scored["neighbours"].to_pylist():
        similarities = [one["similarity"] for one in named]

        assert len(named) == 7
        assert similarities == sorted(similarities, reverse=True)
    assert scored["probabilities"].equals(alone["probabilities"])


def test_the_python_api_reads_in_windows(
    articles: pa.Table, write: Write, score: Score, windows_bundle: Path
) -> None:
    """The same probabilities and the same status as the command."""
    scored = score(write(articles), task="narrative", bundle=windows_bundle)
    scorer = Scorer(windows_bundle, task="narrative", device="cpu")
    rows = zip(articles["text"].to_pylist(), articles["title"].to_pylist(), strict=True)
    predictions = scorer.score([Article(text, title=title) for text, title in rows])

    assert [one.status for one in predictions] == scored["status"].to_pylist()
    assert [list((one.probabilities or {}).items()) for one in predictions] == scored[
        "probabilities"
    ].to_pylist()


def test_a_dry_run_counts_every_window(
    batch_classify: Callable[..., Result], articles: pa.Table, write: Write, windows_bundle: Path
) -> None:
    """Its estimate of the time is over the batches of windows."""
    result = batch_classify(
        write(articles), "--dry-run", task="narrative", bundle=windows_bundle, device="cpu"
    )

    assert result.exit_code == 0, result.output
    assert "are read only in part" in result.output


def test_recalibration_reads_in_windows(
    windows_bundle: Path, articles: pa.Table, write: Write, tmp_path: Path
) -> None:
    """Thresholds are fitted to outputs of whole texts."""
    words = ["--task", "narrative", "--labels-column", "narratives", "--output", tmp_path / "new"]
    words += ["--data", SAMPLES / "articles.parquet", "--ignore-unknown-labels"]
    run(export_classifier, "recalibrate", windows_bundle, *words)
    tasks = BundleReport.of(tmp_path / "new").tasks

    assert tasks["narrative"].windows == BundleReport.of(windows_bundle).tasks["narrative"].windows
    assert tasks["narrative"].recalibration is not None
