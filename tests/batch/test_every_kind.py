"""A task of every kind in one bundle, from training to predictions: the promises hold for each."""

from __future__ import annotations

import json
import random
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
from click.testing import CliRunner, Result

from batch.kinds.multiclass import ClassTaskReport
from exporter.bundle.inspection import BundleReport
from exporter.cli import main as export_classifier
from narrascan import Article, Scorer
from schemas.arrays import Float32Array
from schemas.bundle.folder import Bundle
from schemas.bundle.variants import Precision
from schemas.kinds import KINDS
from tests.tiny import SAMPLES, entity_column
from trainer.checkpoint.reader import Checkpoint
from trainer.model.heads import EmbeddingHead
from trainer.model.multitask import TaskPath
from trainer.model.nearest_head import NearestHead

Contents = Callable[[Path], dict[str, bytes]]
Score = Callable[..., pa.Table]
Write = Callable[..., Path]

TASKS = ("narrative", "outlet", "vectors", "topic", "names")
COLUMNS = (
    "narrative_labels",
    "narrative_probabilities",
    "outlet_label",
    "outlet_probabilities",
    "vectors_embedding",
    "topic_labels",
    "topic_probabilities",
    "topic_neighbours",
    "names_entities",
)
ANSWER_COLUMNS = ("labels", "label", "probabilities", "embedding", "entities", "neighbours")
GOLD = ["narrative=narratives", "outlet=domain", "topic=narratives", "names=entities"]


def run(command: Any, *words: object) -> Result:
    """Call a command line, and expect exit 0."""
    result = CliRunner().invoke(command, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    return result


@pytest.fixture
def sample(sample: pa.Table) -> pa.Table:
    """The sample with gold spans."""
    texts = sample["text"].to_pylist()
    return sample.append_column("entities", entity_column(texts, ["Aid"] * len(texts)))


@pytest.fixture(scope="module")
def trained(tiny_kinds: Path) -> Path:
    """A checkpoint with tasks of every kind."""
    return tiny_kinds / "checkpoint"


@pytest.fixture(scope="module")
def kinds_bundle(tiny_kinds: Path) -> Path:
    """Its bundle in fp32."""
    return tiny_kinds / "bundle"


@pytest.fixture
def options(kinds_bundle: Path) -> dict[str, Any]:
    """Options of a run over one task of each kind, with gold and with neighbours."""
    return {
        "task": ",".join(TASKS),
        "bundle": kinds_bundle,
        "gold_column": GOLD,
        "neighbours": True,
    }


def by_article(scored: pa.Table) -> Mapping[str, tuple[object, ...]]:
    """Answers by article; floats are equal only if their bits are."""
    columns = [map(repr, scored.column(name).to_pylist()) for name in COLUMNS]
    return dict(
        zip(scored.column("article_id").to_pylist(), zip(*columns, strict=True), strict=True)
    )


def test_every_kind_has_a_task_here(kinds_bundle: Path) -> None:
    """A new kind must be added to the config of these tests."""
    kinds = {metadata.kind for metadata in BundleReport.of(kinds_bundle).tasks.values()}

    assert kinds == set(KINDS)


def test_predictions_have_the_columns_of_each_kind(
    sample: pa.Table, write: Write, score: Score, options: dict[str, Any]
) -> None:
    """A list of labels, one label with probabilities that add up to 1, and a vector."""
    scored = score(write(sample), **options)
    outlets = scored.column("outlet_label").to_pylist()
    sums = [sum(value for _, value in row) for row in scored["outlet_probabilities"].to_pylist()]

    assert scored.schema.field("narrative_labels").type == pa.list_(pa.string())
    assert scored.schema.field("outlet_label").type == pa.string()
    assert scored.schema.field("topic_labels").type == pa.list_(pa.string())
    assert scored.schema.field("vectors_embedding").type == pa.list_(pa.float32(), 8)
    assert set(outlets) <= {"UA", "CC"}
    for text, entities in zip(
        sample["text"].to_pylist(), scored["names_entities"].to_pylist(), strict=True
    ):
        assert all(text[one["start"] : one["end"]] == one["text"] for one in entities)
        assert [one["start"] for one in entities] == sorted(one["start"] for one in entities)
    assert sums == pytest.approx([1.0] * len(sums), abs=1e-6)
    for outlet, row in zip(outlets, scored["outlet_probabilities"].to_pylist(), strict=True):
        assert dict(row)[outlet] == max(value for _, value in row)


def test_one_task_has_columns_without_its_name(
    sample: pa.Table, write: Write, score: Score, kinds_bundle: Path
) -> None:
    """The same label and the same bits as beside other tasks."""
    alone = score(write(sample), task="outlet", bundle=kinds_bundle)
    joint = score(write(sample), task="outlet,narrative", bundle=kinds_bundle)

    assert alone.column("label").equals(joint.column("outlet_label"))
    assert alone.column("probabilities").equals(joint.column("outlet_probabilities"))


@pytest.mark.parametrize(
    "changes", [{"chunk_rows": 7}, {"threads": 1}, {"threads": 2, "chunk_rows": 50}], ids=str
)
def test_options_do_not_change_an_answer(
    sample: pa.Table,
    write: Write,
    score: Score,
    options: dict[str, Any],
    changes: dict[str, Any],
) -> None:
    """Every bit is the same for other chunks, threads, and in another order."""
    expected = by_article(score(write(sample), **options))
    rows = random.Random(3).sample(range(len(sample)), len(sample))
    shuffled = by_article(score(write(sample.take(rows), "shuffled.parquet"), **options, **changes))

    assert shuffled == expected


@pytest.fixture(scope="module")
def cuda_bundle(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of a machine with CUDA: fp16 files of the tasks that pass its gate, too."""
    folder = tmp_path_factory.mktemp("cuda") / "bundle"
    words = ["--output", folder, "--precision", "fp32,fp16"]
    for task in ("narrative", "topic"):  # fitted thresholds lie among the scores of a tiny encoder
        words += ["--set", f"{task}.thresholds.strategy=fixed"]
    run(export_classifier, trained, *words)
    return folder


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_cuda_gives_the_same_answers_in_any_arrangement(
    sample: pa.Table, write: Write, score: Score, cuda_bundle: Path, precision: Precision
) -> None:
    """Every bit is the same in another order, with other chunks, and from a second run."""
    tasks = [
        task
        for task, graphs in Bundle.open(cuda_bundle).manifest.tasks.items()
        if task in TASKS and precision in graphs
    ]
    rows = random.Random(3).sample(range(len(sample)), len(sample))
    corpora = write(sample), write(sample.take(rows), "shuffled.parquet")
    assert tasks
    for task in tasks:
        options = {"task": task, "bundle": cuda_bundle, "precision": precision, "device": "cuda"}
        if task == "topic":
            options["neighbours"] = True
        first, *others = (
            answers_of_one_task(score(corpus, **options, **changes))
            for corpus in corpora
            for changes in ({}, {"chunk_rows": 7})
        )

        assert all(other == first for other in others), task


@pytest.mark.gpu
def test_cuda_agrees_with_a_cpu(
    sample: pa.Table, write: Write, score: Score, cuda_bundle: Path
) -> None:
    """Probabilities, votes and vectors of fp32 differ by rounding only."""
    for task in TASKS:
        options = {"task": task, "bundle": cuda_bundle, "precision": "fp32"}
        cuda, cpu = (
            numbers(score(write(sample), **options, device=device)) for device in ("cuda", "cpu")
        )

        assert np.abs(cuda - cpu).max() < 1e-3, task


def answers_of_one_task(scored: pa.Table) -> Mapping[str, str]:
    """All columns of answers by article; floats are equal only if their bits are."""
    answers = scored.select([name for name in scored.column_names if name in ANSWER_COLUMNS])
    return dict(
        zip(scored.column("article_id").to_pylist(), map(repr, answers.to_pylist()), strict=True)
    )


def numbers(scored: pa.Table) -> Float32Array:
    """Probabilities, vectors or scores of spans of a task, all rows in one (numbers,) array."""
    if "entities" in scored.column_names:
        spans = scored.column("entities").combine_chunks().flatten()
        return np.asarray(spans.field("score"))
    if "embedding" in scored.column_names:
        return np.asarray(scored.column("embedding").combine_chunks().flatten())
    return np.asarray(scored.column("probabilities").combine_chunks().items)


def test_a_cache_changes_no_answer(
    sample: pa.Table, write: Write, score: Score, options: dict[str, Any], tmp_path: Path
) -> None:
    """Outputs of every kind are read back to the bit."""
    corpus, cache = write(sample), tmp_path / "cache"
    expected = by_article(score(corpus, **options))
    filled, read = (by_article(score(corpus, **options, cache=cache)) for _ in range(2))

    assert filled == read == expected


def test_shards_and_kills_leave_no_trace(
    sample: pa.Table,
    write: Write,
    score: Score,
    words: Callable[..., list[str]],
    options: dict[str, Any],
    tmp_path: Path,
    contents: Contents,
) -> None:
    """Merged shards, and a run that was killed and resumed, are the folder of one run."""
    corpus, whole = write(sample), tmp_path / "whole"
    score(corpus, **options, chunk_rows=4, output=whole)
    for number in (1, 2):
        score(corpus, **options, chunk_rows=4, output=tmp_path / str(number), shard=f"{number}/2")
    merged = ["merge", tmp_path / "1", tmp_path / "2", "--output", tmp_path / "merged"]
    command = words(corpus, **options, chunk_rows=4, output=tmp_path / "killed")
    done = tmp_path / "killed" / ".narrascan" / "done"
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None and len(list(done.glob("*.json"))) < 3:
            time.sleep(0.005)
        process.kill()
    merging = subprocess.run([command[0], *map(str, merged)], check=False)
    finishing = subprocess.run(command, capture_output=True, text=True, check=False)

    assert merging.returncode == 0
    assert finishing.returncode == 0, finishing.stderr
    assert contents(tmp_path / "merged") == contents(whole)
    assert contents(tmp_path / "killed") == contents(whole)


def test_gold_is_compared_by_the_scores_of_the_kind(
    sample: pa.Table, write: Write, score: Score, options: dict[str, Any], tmp_path: Path
) -> None:
    """Accuracy and confusions are those that polars counts in the predictions."""
    scored = score(write(sample), **options, output=tmp_path / "scored")
    reports = json.loads((tmp_path / "scored" / "report.json").read_text())["tasks"]
    report = ClassTaskReport.model_validate(reports["outlet"])
    pairs = pl.from_arrow(scored.select(["domain", "outlet_label"]))
    assert isinstance(pairs, pl.DataFrame)
    counts = {
        (gold, label): rows for gold, label, rows in pairs.group_by(pairs.columns).len().rows()
    }
    page = (tmp_path / "scored" / "report.html").read_text()

    assert report.overall.gold is not None
    assert report.overall.gold.accuracy == pytest.approx(
        (pairs["domain"] == pairs["outlet_label"]).mean(), abs=1e-6
    )
    assert report.overall.rows_of == counts
    assert report.domains["UA"].rows_of == {key: n for key, n in counts.items() if key[0] == "UA"}
    assert "accuracy" in page
    assert "micro F1" in page
    assert page.count("<dt>Precision</dt>") == 1


def test_gold_spans_are_compared_with_those_found(
    sample: pa.Table, write: Write, score: Score, options: dict[str, Any], tmp_path: Path
) -> None:
    """Scores are those that are counted in the predictions."""
    scored = score(write(sample), **options, output=tmp_path / "scored")
    overall = json.loads((tmp_path / "scored" / "report.json").read_text())["tasks"]["names"]
    pairs = [
        [{(one["start"], one["end"], one["label"]) for one in row} for row in (gold, found)]
        for gold, found in zip(
            sample["entities"].to_pylist(), scored["names_entities"].to_pylist(), strict=True
        )
    ]
    right = sum(len(gold & found) for gold, found in pairs)
    wanted, given = (sum(len(pair[side]) for pair in pairs) for side in (0, 1))

    assert overall["overall"]["gold"]["spans"] == wanted > 0
    assert overall["overall"]["spans"] == given > 0
    assert overall["overall"]["gold"]["recall"] == pytest.approx(right / wanted, abs=1e-6)
    assert overall["overall"]["gold"]["precision"] == pytest.approx(right / given, abs=1e-6)
    assert {name: one["spans"] for name, one in overall["domains"].items()} == {
        domain: sum(
            len(found)
            for found, of in zip(
                scored["names_entities"].to_pylist(), sample["domain"].to_pylist(), strict=True
            )
            if of == domain
        )
        for domain in ("CC", "UA")
    }


def test_gold_spans_behind_their_text_set_the_row_aside(
    batch_classify: Callable[..., Result],
    sample: pa.Table,
    write: Write,
    kinds_bundle: Path,
    tmp_path: Path,
) -> None:
    """A span that ends behind the last character belongs to another text; others are compared."""
    lengths = [len(text) for text in sample["text"].to_pylist()]
    ends = [length + (row == 7) for row, length in enumerate(lengths)]
    gold = pa.array([[{"start": 0, "end": end, "label": "name"}] for end in ends])
    corpus = write(sample.drop_columns("entities").append_column("spans", gold))
    options = {"task": "names", "bundle": kinds_bundle, "output": tmp_path / "scored"}
    result = batch_classify(corpus, **options, gold_column="spans", max_quarantined=0.5)
    assert result.exit_code == 0, result.output
    set_aside = pl.read_parquet(tmp_path / "scored" / "quarantine" / "*.parquet")

    assert set_aside["source_row"].to_list() == [7]
    assert set_aside["reason"].to_list() == [
        f"gold column 'spans': a span of 'name' from 0 to {ends[7]} lies outside the text of "
        f"{lengths[7]} characters"
    ]


def test_gold_of_another_kind_is_refused_before_scoring(
    batch_classify: Callable[..., Result],
    sample: pa.Table,
    write: Write,
    kinds_bundle: Path,
    tmp_path: Path,
) -> None:
    """The message names the column and what is read; rows with several labels are set aside."""
    options = {"task": "outlet", "bundle": kinds_bundle, "output": tmp_path / "scored"}
    wrong_type = batch_classify(write(sample), **options, gold_column="published_at")
    gold = pa.array([["UA"], ["UA", "CC"], []] * 16)
    corpus = write(sample.append_column("side", gold), "lists.parquet")
    options["output"] = tmp_path / "lists"
    several = batch_classify(corpus, **options, gold_column="side", max_quarantined=0.5)
    reasons = pl.read_parquet(tmp_path / "lists" / "quarantine" / "*.parquet")["reason"]

    assert wrong_type.exit_code == 1
    assert "published_at" in wrong_type.stderr
    assert "a string or a list of one string" in wrong_type.stderr
    assert not (tmp_path / "scored" / "predictions").exists()
    assert several.exit_code == 0, several.output
    assert reasons.to_list() == ["gold column 'side': 2 labels, expected one: 'UA', 'CC'"] * 16


def test_verify_inspect_and_the_card_know_every_kind(kinds_bundle: Path) -> None:
    """All checks of a bundle pass, and the card has the scores of each kind."""
    result = run(export_classifier, "verify", kinds_bundle)
    shown = run(export_classifier, "inspect", kinds_bundle).output
    card = (kinds_bundle / "MODEL_CARD.md").read_text()

    assert "problem" not in result.output
    for text in (shown, card):
        assert "accuracy" in text
        assert "micro-F1" in text
        assert "mean pooling over the last 2 layers" in text
        assert "7 nearest of the training texts vote" in text
    assert (kinds_bundle / "reliability-outlet.png").exists()
    assert (kinds_bundle / "map-vectors.png").exists()
    assert (kinds_bundle / "reliability-names.png").exists()
    assert "Viterbi" in card


def test_recalibrating_one_task_leaves_the_others(
    kinds_bundle: Path, sample: pa.Table, write: Write, score: Score, tmp_path: Path
) -> None:
    """`--set` takes the keys of the kind; labels of the other task keep their bits."""
    new = tmp_path / "new"
    words = ["--task", "outlet", "--labels-column", "domain", "--output", new]
    words += ["--data", SAMPLES / "articles.parquet", "--set", "least_probability=0.999999"]
    run(export_classifier, "recalibrate", kinds_bundle, *words)
    before, after = (
        score(write(sample), task=",".join(TASKS), bundle=folder) for folder in (kinds_bundle, new)
    )

    assert after.column("narrative_probabilities").equals(before.column("narrative_probabilities"))
    highest = [max(dict(row).values()) for row in after.column("outlet_probabilities").to_pylist()]
    assert after.column("outlet_label").null_count == sum(one < 0.999999 for one in highest)
    assert after.column("outlet_label").null_count > 0


def test_a_setting_of_another_kind_is_a_usage_error(trained: Path, tmp_path: Path) -> None:
    """A softmax has no thresholds; the message lists the keys that there are."""
    words = [str(trained), "--output", str(tmp_path / "b"), "--set", "outlet.thresholds.fixed=0.3"]
    result = CliRunner().invoke(export_classifier, words)

    assert result.exit_code == 2
    assert "unknown key 'thresholds.fixed'" in result.output
    assert "'least_probability'" in result.output


def test_the_python_api_gives_one_label(kinds_bundle: Path) -> None:
    """Labels has at most one, and probabilities are those of every label."""
    scorer = Scorer(kinds_bundle, task="outlet", device="cpu")
    (prediction,) = scorer.score(["Aid is wasted by officials."])

    assert len(prediction.labels) == 1
    assert prediction.probabilities is not None
    assert set(prediction.probabilities) == {"CC", "UA"}


def test_the_python_api_gives_spans(kinds_bundle: Path) -> None:
    """Offsets are characters of the text as it was given, whatever stands before and between."""
    text = "  In March \U0001f600 Cafe\u0301 Avelin   closed in [ENTITY] May."
    scorer = Scorer(kinds_bundle, task="names", device="cpu")
    (prediction,) = scorer.score([Article(text, title="June in July")])

    assert prediction.entities
    assert all(text[one.start : one.end] == one.text for one in prediction.entities)
    assert all(0.0 <= one.score <= 1.0 for one in prediction.entities)
    assert prediction.labels == tuple(dict.fromkeys(one.label for one in prediction.entities))


def test_vectors_and_references_are_of_the_encoder_that_is_exported(trained: Path) -> None:
    """Heads that are not trained take the encoder as the other tasks leave it."""
    checkpoint = Checkpoint.open(trained)
    head = checkpoint.model.head("topic")
    assert isinstance(head, NearestHead)
    plain = EmbeddingHead(32, pooling="mean", layers=1, dimension=32, normalize=True)
    path = TaskPath(checkpoint.model.encoder, plain).eval()
    for ids in checkpoint.sample("topic")[::40]:
        inputs = torch.tensor(ids)[None].long()
        with torch.inference_mode():
            vector = path(inputs, torch.ones_like(inputs))
        cosines = torch.nn.functional.cosine_similarity(vector - head.mean, head.vectors)

        assert float(cosines.max()) > 0.999


def test_readers_find_the_nearest_vectors(
    sample: pa.Table, write: Write, score: Score, kinds_bundle: Path, tmp_path: Path
) -> None:
    """polars, DuckDB and pandas, as docs/columns.md says."""
    out = tmp_path / "scored"
    scored = score(write(sample), task="vectors", bundle=kinds_bundle, output=out)
    expected = np.stack(scored["embedding"].to_pylist()).astype(np.float32)
    order = (expected @ expected[0]).argsort()[::-1][:5]
    files = str(out / "predictions" / "*.parquet")
    relation = duckdb.sql(
        f"""
        SELECT b.source_row, list_cosine_similarity(a.embedding, b.embedding) AS cosine
        FROM '{files}' a, '{files}' b WHERE a.source_row = 0 ORDER BY cosine DESC LIMIT 5
        """
    )
    assert relation is not None
    found = relation.fetchall()

    assert np.array_equal(pl.read_parquet(files)["embedding"].to_numpy(), expected)
    assert {row for row, _ in found} == set(order.tolist())
    frames = pd.concat(pd.read_parquet(path) for path in (out / "predictions").glob("*.parquet"))
    assert np.array_equal(np.stack(frames["embedding"].to_list()), expected)
