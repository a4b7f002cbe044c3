"""Throughput benchmark: every backend scores, and the page has all results."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import Result
from matplotlib import image
from transformers import AutoModelForSequenceClassification

from batch.engines.graph_file import GraphFile
from bench.bundles import TINY, random_bundle, widened_bundle
from bench.scoring.backend_process import BackendProcess, Corpus
from bench.scoring.machine import Machine
from bench.scoring.throughput_page import BackendResult, Results, write_page
from bench.texts import corpus_table
from exporter.bundle.inspection import metadata_of
from schemas.bundle.facts import VariantCost
from schemas.bundle.folder import Bundle
from tests.tiny import make_encoder, make_tokenizer

SPEEDS = {
    "pipeline": [100.0, 200.0, 100.0],
    "torch-sorted": [200.0, 400.0, 250.0],
    "fp32": [400.0, 600.0, 500.0],
}


def result_of(name: str, cost: VariantCost | None = None) -> BackendResult:
    """Results of a backend."""
    return BackendResult.of(SPEEDS, name, peak_rss_mb=300.4, share_of_peak=0.5, cost=cost)


def test_ratios_are_of_the_same_round() -> None:
    """A round in which the whole machine was slow counts like any other."""
    result = result_of("fp32")

    assert result.ratio_pipeline == 4.0
    assert result.ratio_pipeline_range == (3.0, 5.0)
    assert result.ratio_torch_sorted == 2.0
    assert result.tokens_per_s == 500


def test_page_shows_every_backend_and_its_output_error(tmp_path: Path) -> None:
    """A row for every backend in both tables, output errors of variants, and a chart."""
    cost = VariantCost(
        texts=10,
        output_error_max=0.0123,
        output_error_mean=0.00002,
        changed_decisions=0.0,
        changed_articles=0.0042,
        before={"micro_f1": 0.9, "macro_f1": 0.6},
        after={"micro_f1": 0.9, "macro_f1": 0.6},
        kept_nodes=(),
    )
    backends = {
        "pipeline": result_of("pipeline"),
        "fp32": result_of("fp32"),
        "bf16": result_of("fp32", cost),
    }
    results = Results(
        news=backends,
        long=backends,
        machine=Machine(cpu="a processor", cores=2, peaks={"fp32": 100.0}),
        model="a model",
        texts={"news": 2000, "long": 1000},
        mean_tokens={"news": 186, "long": 406},
        rounds=3,
    )
    page = tmp_path / "throughput.md"
    write_page(results, page)
    text = page.read_text()

    assert text.count("| narrascan fp32 | 4.00 (3.00 to 5.00) | 2.00 | 500 | 50% | 300 |  |") == 2
    assert text.count("| 0.0123 | 2.0e-05 | 0.42% |") == 2
    assert image.imread(tmp_path / "throughput.png").shape[0] > 100
    assert Results.model_validate_json(results.model_dump_json()) == results


@pytest.mark.parametrize("name", ["pipeline", "torch-sorted", "fp32"])
def test_every_backend_reports_speed_and_memory(
    name: str, bundle: Path, encoder: Path, tmp_path: Path
) -> None:
    """A backend scores the first rows and reports tokens/s and its peak memory."""
    corpus = Corpus("few", tmp_path / "few.parquet", (5, 5, 5))
    pq.write_table(pa.table({"text": ["one war", "two wars", "no war"]}), corpus.path)
    model = bundle
    if name != "fp32":
        model = make_encoder(tmp_path / "peer", tokenizer=make_tokenizer())
        AutoModelForSequenceClassification.from_pretrained(model).save_pretrained(model)
    with BackendProcess(name, model, "narrative") as process:
        first, second = (process.score(corpus, rows) for rows in (2, 3))

    assert min(first[0], second[0]) > 0
    assert 20 < first[1] <= second[1] < 4000


def test_lengths_match_the_documented_distributions() -> None:
    """Medians and 95th percentiles of the two corpora, in words."""
    for name, middle, high in (("news", 108, 474), ("long", 346, 892)):
        table = corpus_table(name, 4000, np.random.default_rng(0))
        words = [len(text.split()) for text in table["text"].to_pylist()]

        assert np.median(words) == pytest.approx(middle, rel=0.06)
        assert np.quantile(words, 0.95) == pytest.approx(high, rel=0.08)


def test_widened_bundle_differs_in_max_tokens_only(bundle: Path, tmp_path: Path) -> None:
    """It reads more tokens of a text, with the same thresholds and graphs."""
    wide = widened_bundle(bundle, "narrative", tmp_path / "wide", max_tokens=100)
    Bundle.open(wide).check_all()
    before, after = (
        metadata_of(GraphFile.of_path(one / "narrative.onnx"), "narrative")
        for one in (bundle, wide)
    )

    assert after == before.model_copy(update={"max_tokens": 100})


def test_random_bundle_scores_with_an_untrained_encoder(
    bundle: Path, batch_classify: Callable[..., Result], tmp_path: Path
) -> None:
    """It is complete and has the metadata of its source."""
    made = random_bundle(bundle, "narrative", tmp_path / "tiny", config=TINY)
    Bundle.open(made).check_all()
    pq.write_table(corpus_table("short", 20, np.random.default_rng(0)), tmp_path / "short.parquet")
    result = batch_classify(tmp_path / "short.parquet", bundle=made, output=tmp_path / "scored")
    before, after = (
        metadata_of(GraphFile.of_path(one / "narrative.onnx"), "narrative")
        for one in (bundle, made)
    )

    assert result.exit_code == 0, result.output
    assert after == before
