"""Makes the valid inputs of fuzzing: bundle, keys, corpora, output folders, a cache."""

from __future__ import annotations

import shutil
from pathlib import Path

import click
import polars as pl
import pyarrow.compute as pc
import pyarrow.parquet as pq
from click.testing import CliRunner

from batch.cli import main as batch_classify
from batch.engines.graph_file import GraphFile
from exporter.bundle.inspection import metadata_of
from exporter.bundle.sign import make_keys, sign_bundle
from exporter.graph.trace import embed_metadata
from schemas.bundle.facts import VariantCost
from schemas.bundle.folder import Bundle, BundleFiles, BundleManifest
from schemas.bundle.metadata import variant_model
from schemas.bundle.variants import Precision
from schemas.io.files import FileFacts
from schemas.kinds import KINDS
from tests.robustness.bundles import robust_bundle
from tests.robustness.fuzz.inputs import FuzzInputs
from tests.tiny import SAMPLES

TEXT_CHARACTERS = 160
ROWS = 12


def prepare_inputs(folder: Path) -> FuzzInputs:
    """Make the inputs of all cases."""
    inputs = FuzzInputs(folder)
    shutil.copytree(robust_bundle(folder / "tiny"), inputs.bundle)
    _add_bf16(inputs.bundle)
    make_keys(inputs.private_key)
    sign_bundle(inputs.bundle, inputs.private_key)
    _write_corpora(folder / "corpora")
    arguments = [*inputs.arguments(inputs.corpus), "--task", "narrative"]
    for options in (
        ["--gold-column", "narratives", "--output", str(inputs.finished)],
        *(
            ["--shard", f"{number}/2", "--output", str(shard)]
            for number, shard in enumerate(inputs.shards, 1)
        ),
        ["--cache", str(inputs.cache), "--output", str(folder / "with-cache")],
        [str(inputs.corpora[1]), "--output", str(inputs.finished_pair)],
    ):
        words = [*arguments, *options, "--max-quarantined", "1"]
        result = CliRunner().invoke(batch_classify, words)
        if result.exit_code != 0:
            raise click.ClickException(f"the inputs cannot be prepared: {result.output}")
    return inputs


def _add_bf16(bundle: Path) -> None:
    """Add a bf16 variant without any cost to every task of a bundle.

    A measured variant would pass or fail its checks differently from export to export.
    """
    files = BundleFiles(bundle)
    manifest = Bundle.open(bundle).manifest
    numbers = set(VariantCost.model_fields) - {"before", "after", "kept_nodes", "device"}
    no_cost = VariantCost.model_validate(
        {**dict.fromkeys(numbers, 0), "before": {}, "after": {}, "kept_nodes": ()}
    )
    for task in manifest.tasks:
        metadata = metadata_of(GraphFile.of_path(files.onnx(task)), task)
        decision_fields = set(KINDS[metadata.kind].Decision.model_fields)
        variant = variant_model(metadata.kind).model_validate(
            {
                "decision": metadata.model_dump(include=decision_fields),
                "evidence": metadata.evidence,
                "validation": metadata.metrics.validation,
                "cross_validated": metadata.metrics.cross_validated,
                "cost": no_cost,
            }
        )
        variants = {"variants": {"bf16": variant}}
        embed_metadata(files.onnx(task), [metadata.model_copy(update=variants)])
    precisions: tuple[Precision, ...] = ("fp32", "bf16")
    updated = BundleManifest(
        tasks={task: dict.fromkeys(precisions, files.onnx(task).name) for task in manifest.tasks},
        files={name: FileFacts.of(bundle / name) for name in manifest.files},
    )
    files.manifest.write_text(updated.model_dump_json())


def _write_corpora(folder: Path) -> None:
    """Write the same short articles as Parquet in several encodings, all columns of the samples."""
    folder.mkdir(parents=True)
    table = pl.read_parquet(SAMPLES / "articles.parquet").head(ROWS).to_arrow()
    text = pc.utf8_slice_codeunits(table.column("text"), 0, TEXT_CHARACTERS)
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
