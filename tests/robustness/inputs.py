"""Bundles and corpora for the fuzzer and the torture test, made from the project's samples."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pyarrow.compute as pc
import pyarrow.parquet as pq

from batch.engines.graph_file import GraphFile
from exporter.bundle.export import export_checkpoint
from exporter.bundle.inspection import metadata_of
from exporter.graph.trace import embed_metadata
from schemas.bundle.folder import Bundle, BundleFiles, BundleManifest
from schemas.bundle.metadata import VariantCost, VariantFacts
from schemas.bundle.variants import Precision
from schemas.config import load_config
from schemas.io.files import FileFacts
from tests.tiny import SAMPLES, make_encoder, make_tokenizer, write_config
from trainer.training.loop import train


def tiny_bundle(folder: Path) -> Path:
    """A bundle over an encoder of two small layers with random weights: fast, and worthless."""
    folder.mkdir(parents=True)
    encoder = make_encoder(folder / "encoder", tokenizer=make_tokenizer())
    config = load_config(write_config(folder / "config.toml", encoder, epochs=1))
    train(config, folder / "checkpoint")
    export_checkpoint(folder / "checkpoint", folder / "bundle")
    return folder / "bundle"


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
