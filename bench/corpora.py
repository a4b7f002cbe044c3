"""Corpora and bundles for benchmarks, made from the project's own samples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.compute as pc
import pyarrow.parquet as pq

from batch.graph_file import GraphFile
from exporter.graph import embed_metadata
from exporter.inspection import metadata_of
from exporter.publish import export_checkpoint
from schemas.bundle import Bundle, BundleFiles, BundleManifest
from schemas.config import load_config
from schemas.files import FileFacts
from schemas.metadata import VariantCost, VariantFacts
from schemas.variants import Precision
from tests.tiny import SAMPLES, make_encoder, make_tokenizer, write_config
from trainer.loop import train


def short_corpus(rows: int, rng: np.random.Generator) -> pl.DataFrame:
    """Rows of 5 to 20 words, hardly any two alike."""
    return _corpus(rng.integers(5, 21, size=rows), rng)


def news_corpus(rows: int, rng: np.random.Generator) -> pl.DataFrame:
    """News with a log-normal number of words: median 108, 95th percentile 474."""
    return _log_normal_corpus(rows, rng, median=108, percentile_95=474)


def long_corpus(rows: int, rng: np.random.Generator) -> pl.DataFrame:
    """Articles with a log-normal number of words: median 346, 95th percentile 892."""
    return _log_normal_corpus(rows, rng, median=346, percentile_95=892)


def _log_normal_corpus(
    rows: int, rng: np.random.Generator, *, median: float, percentile_95: float
) -> pl.DataFrame:
    spread = np.log(percentile_95 / median) / 1.645
    return _corpus(np.maximum(rng.lognormal(np.log(median), spread, rows).astype(int), 1), rng)


def _corpus(words_a_row: np.ndarray, rng: np.random.Generator) -> pl.DataFrame:
    words = np.array(" ".join(pl.read_parquet(SAMPLES / "train.parquet")["text"]).split())
    starts = rng.integers(0, len(words), size=len(words_a_row))
    steps = rng.integers(1, 50, size=len(words_a_row))
    texts = [
        " ".join(words[(start + step * np.arange(count)) % len(words)])
        for start, step, count in zip(starts, steps, words_a_row, strict=True)
    ]
    domains = np.array(["UA", "CC"])[rng.integers(0, 2, size=len(texts))]
    return pl.DataFrame({"article_id": np.arange(len(texts)), "text": texts, "domain": domains})


def tiny_bundle(folder: Path) -> Path:
    """A bundle over an encoder of two small layers with random weights: fast, and worthless."""
    folder.mkdir(parents=True)
    encoder = make_encoder(folder / "encoder", tokenizer=make_tokenizer())
    config = load_config(write_config(folder / "config.toml", encoder, epochs=1))
    train(config, folder / "checkpoint")
    export_checkpoint(folder / "checkpoint", folder / "bundle")
    return folder / "bundle"


def widened_bundle(bundle: Path, task: str, folder: Path, *, max_tokens: int) -> Path:
    """A copy of one task of a bundle that reads longer texts; the graphs are the same."""
    opened, ours = Bundle.open(bundle), BundleFiles(folder)
    folder.mkdir(parents=True)
    ours.tokenizer.write_bytes(opened.read_tokenizer())
    files = opened.manifest.tasks[task]
    for name in files.values():
        graph = folder / name
        if not graph.exists():
            graph.write_bytes(opened.read(name))
            metadata = metadata_of(GraphFile.of_path(graph), task)
            embed_metadata(graph, metadata.model_copy(update={"max_tokens": max_tokens}))
    names = dict.fromkeys([ours.tokenizer.name, *files.values()])
    manifest = BundleManifest(
        tasks={task: files}, files={name: FileFacts.of(folder / name) for name in names}
    )
    ours.manifest.write_text(manifest.model_dump_json())
    return folder


def pretend_bf16(bundle: Path) -> None:
    """Let every task of a bundle be run in bf16 too, as if that had passed its gate at no cost.

    Whether it passes, and which precision is faster, would differ from export to export.
    """
    files = BundleFiles(bundle)
    stored = Bundle.open(bundle).manifest
    numbers = set(VariantCost.model_fields) - {"kept", "device"}
    free = VariantCost.model_validate({**dict.fromkeys(numbers, 0), "kept": ()})
    for task in stored.tasks:
        about = metadata_of(GraphFile.of_path(files.onnx(task)), task)
        variant = VariantFacts(
            thresholds=about.thresholds,
            calibration=about.calibration,
            decision=about.decision,
            validation=about.metrics.validation,
            cross_validated=about.metrics.cross_validated,
            cost=free,
        )
        embed_metadata(files.onnx(task), about.model_copy(update={"variants": {"bf16": variant}}))
    precisions: tuple[Precision, ...] = ("fp32", "bf16")
    manifest = BundleManifest(
        tasks={task: dict.fromkeys(precisions, files.onnx(task).name) for task in stored.tasks},
        files={name: FileFacts.of(bundle / name) for name in stored.files},
    )
    files.manifest.write_text(manifest.model_dump_json())


def fuzz_corpora(folder: Path) -> None:
    """The same dozen short articles as Parquet in several encodings; all columns of the samples."""
    folder.mkdir(parents=True)
    table = pl.read_parquet(SAMPLES / "articles.parquet").head(12).to_arrow()
    text = pc.utf8_slice_codeunits(table.column("text"), 0, 160)
    table = table.set_column(table.schema.get_field_index("text"), "text", text)
    layouts: dict[str, dict[str, object]] = {
        "a-snappy": {},
        "b-plain": {"use_dictionary": False, "compression": "none"},
        "c-zstd": {"compression": "zstd", "row_group_size": 5, "data_page_version": "2.0"},
        "d-delta": {
            "use_dictionary": False,
            "column_encoding": {"text": "DELTA_BYTE_ARRAY", "start": "DELTA_BINARY_PACKED"},
        },
        "e-index": {"write_page_index": True, "write_page_checksum": True, "data_page_size": 200},
        "f-bare": {"store_schema": False, "compression": "gzip"},
    }
    for name, options in layouts.items():
        pq.write_table(table, folder / f"{name}.parquet", **options)
