"""What the benchmark of speed promises: every way scores, and the page says what was measured."""

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
from bench.corpora import long_corpus, news_corpus, short_corpus
from bench.scoring.backend_process import Contender, Corpus
from bench.scoring.machine import Machine
from bench.scoring.throughput_page import Results, Variant, write_page
from exporter.bundle.inspection import metadata_of
from schemas.bundle.folder import Bundle
from schemas.bundle.metadata import VariantCost
from tests.tiny import make_encoder, make_tokenizer

SPEEDS = {
    "pipeline": [100.0, 200.0, 100.0],
    "torch-sorted": [200.0, 400.0, 250.0],
    "fp32": [400.0, 600.0, 500.0],
}


def variant(way: str, cost: VariantCost | None = None) -> Variant:
    """Figures of a way of scoring."""
    return Variant.of(SPEEDS, way, peak_rss_mb=300.4, share_of_peak=0.5, cost=cost)


def test_ratios_are_of_the_same_round() -> None:
    """A round in which the whole machine was slow counts like any other."""
    found = variant("fp32")

    assert found.ratio_pipeline == 4.0
    assert found.ratio_pipeline_range == (3.0, 5.0)
    assert found.ratio_torch_sorted == 2.0
    assert found.tokens_per_s == 500


def test_page_shows_every_way_and_what_it_costs(tmp_path: Path) -> None:
    """A row a way in each table, drift where there is any, and a picture beside the page."""
    cost = VariantCost(
        texts=10,
        drift_max=0.0123,
        drift_mean=0.00002,
        changed_decisions=0.0,
        changed_articles=0.0042,
        micro_f1_before=0.9,
        micro_f1_after=0.9,
        macro_f1_before=0.6,
        macro_f1_after=0.6,
        kept=(),
    )
    ways = {"pipeline": variant("pipeline"), "fp32": variant("fp32"), "bf16": variant("fp32", cost)}
    results = Results(
        news=ways,
        long=ways,
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


@pytest.mark.parametrize("way", ["pipeline", "torch-sorted", "fp32"])
def test_every_way_answers_with_its_speed(
    way: str, bundle: Path, encoder: Path, tmp_path: Path
) -> None:
    """A contender scores the rows it is told to, and says how fast, and in how much memory."""
    corpus = Corpus("few", tmp_path / "few.parquet", (5, 5, 5))
    pq.write_table(pa.table({"text": ["one war", "two wars", "no war"]}), corpus.path)
    model = bundle
    if way != "fp32":
        model = make_encoder(tmp_path / "peer", tokenizer=make_tokenizer())
        AutoModelForSequenceClassification.from_pretrained(model).save_pretrained(model)
    with Contender(way, model, "narrative") as contender:
        first, second = (contender.score(corpus, rows) for rows in (2, 3))

    assert min(first[0], second[0]) > 0
    assert 20 < first[1] <= second[1] < 4000


def test_lengths_are_those_that_are_told() -> None:
    """Medians and 95th percentiles of the two corpora, in words."""
    for corpus, middle, high in ((news_corpus, 108, 474), (long_corpus, 346, 892)):
        words = [len(text.split()) for text in corpus(4000, np.random.default_rng(0))["text"]]

        assert np.median(words) == pytest.approx(middle, rel=0.06)
        assert np.quantile(words, 0.95) == pytest.approx(high, rel=0.08)


def test_widened_bundle_is_the_same_but_for_its_length(bundle: Path, tmp_path: Path) -> None:
    """It reads more tokens of a text and decides by the same numbers."""
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
    """It is a complete bundle with the labels of the bundle that it was made from."""
    made = random_bundle(bundle, "narrative", tmp_path / "tiny", config=TINY)
    Bundle.open(made).check_all()
    short_corpus(20, np.random.default_rng(0)).write_parquet(tmp_path / "short.parquet")
    result = batch_classify(tmp_path / "short.parquet", bundle=made, output=tmp_path / "scored")
    before, after = (
        metadata_of(GraphFile.of_path(one / "narrative.onnx"), "narrative")
        for one in (bundle, made)
    )

    assert result.exit_code == 0, result.output
    assert after == before
