"""Bundles made for benchmarks: a longer maximum length, or an encoder with random weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from transformers import AutoModel, BertConfig

from batch.engines.graph_file import GraphFile
from exporter.bundle.inspection import metadata_of
from exporter.graph.trace import embed_metadata, trace_graph
from exporter.precision.fp16 import fuse
from schemas.bundle.folder import Bundle, BundleFiles, BundleManifest
from schemas.bundle.variants import Precision
from schemas.io.files import FileFacts
from trainer.model.heads import make_heads
from trainer.model.multitask import MultiTaskModel

TINY = BertConfig(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64)
"""Two small layers: the encoder costs next to nothing."""
BASE = BertConfig(hidden_size=768, num_hidden_layers=12, num_attention_heads=12)
"""BERT-base, 110 M parameters."""


def widened_bundle(bundle: Path, task: str, folder: Path, *, max_tokens: int) -> Path:
    """Copy one task of a bundle, with the same graphs and a larger `max_tokens`."""
    source, files = Bundle.open(bundle), BundleFiles(folder)
    folder.mkdir(parents=True)
    files.tokenizer.write_bytes(source.read_tokenizer())
    graphs = source.manifest.tasks[task]
    for name in set(graphs.values()):
        graph = folder / name
        graph.write_bytes(source.read(name))
        metadata = metadata_of(GraphFile.of_path(graph), task)
        embed_metadata(graph, [metadata.model_copy(update={"max_tokens": max_tokens})])
    _write_manifest(files, task, graphs)
    return folder


def random_bundle(
    bundle: Path,
    task: str,
    folder: Path,
    *,
    config: BertConfig,
    precisions: Sequence[Precision] = ("fp32",),
) -> Path:
    """Write a bundle with an encoder of random weights: meaningless scores, realistic speed.

    Task, labels, thresholds and tokenizer are those of `bundle`, which must have `precisions`.
    """
    source, files = Bundle.open(bundle), BundleFiles(folder)
    folder.mkdir(parents=True)
    files.tokenizer.write_bytes(source.read_tokenizer())
    metadata = {
        precision: metadata_of(GraphFile.of_bundle(source, (task,), precision), task)
        for precision in precisions
    }
    about = metadata[precisions[0]]
    encoder = AutoModel.from_config(config, trust_remote_code=False)
    heads = make_heads(encoder, {task: len(about.labels)}, heads={task: "label_attention"})
    model = MultiTaskModel(encoder, heads).eval()
    graph = trace_graph(model.joint((task,)), {task: about.output})
    for precision in precisions:
        if precision == "fp16":
            fuse(graph, layers=config.num_hidden_layers).write(files, "fp16")
        else:
            graph.write(files)
        embed_metadata(files.onnx(task, precision), [metadata[precision]])
    _write_manifest(
        files, task, {precision: files.onnx(task, precision).name for precision in precisions}
    )
    return folder


def _write_manifest(files: BundleFiles, task: str, graphs: Mapping[Precision, str]) -> None:
    names = dict.fromkeys([files.tokenizer.name, *graphs.values()])
    manifest = BundleManifest(
        tasks={task: dict(graphs)},
        files={name: FileFacts.of(files.folder / name) for name in names},
    )
    files.manifest.write_text(manifest.model_dump_json())
