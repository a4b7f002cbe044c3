"""A bundle over a larger encoder of random weights: worthless scores, at the speed of its size."""

from __future__ import annotations

from pathlib import Path

from transformers import (
    AutoModel,
    AutoModelForSequenceClassification,
    BertConfig,
    PreTrainedTokenizerFast,
)

from batch.engines.graph_file import GraphFile
from exporter.bundle.inspection import metadata_of
from exporter.graph.trace import embed_metadata, trace_graph
from exporter.precision.fp16 import fuse
from schemas.bundle.folder import Bundle, BundleFiles, BundleManifest
from schemas.bundle.variants import Precision
from schemas.io.files import FileFacts
from trainer.model.multitask import MultiTaskModel

PRECISIONS: tuple[Precision, ...] = ("fp16", "fp32")
BASE = BertConfig(hidden_size=768, num_hidden_layers=12, num_attention_heads=12)
"""BERT-base, 110 M parameters."""


def larger_bundle(bundle: Path, task: str, folder: Path, config: BertConfig = BASE) -> Path:
    """Write a bundle that has the task and the tokenizer of another one."""
    opened, files = Bundle.open(bundle), BundleFiles(folder)
    folder.mkdir(parents=True)
    files.tokenizer.write_bytes(opened.read_tokenizer())
    about = {
        precision: metadata_of(GraphFile.of_bundle(opened, (task,), precision), task)
        for precision in PRECISIONS
    }
    model = MultiTaskModel(
        AutoModel.from_config(config, trust_remote_code=False),
        {task: len(about["fp32"].labels)},
        heads={task: "label_attention"},
    ).eval()
    graph = trace_graph(model.joint((task,)))
    graph.write(files)
    fuse(graph, layers=config.num_hidden_layers).write(files, "fp16")
    for precision, metadata in about.items():
        embed_metadata(files.onnx(task, precision), metadata)
    graphs = {precision: files.onnx(task, precision).name for precision in PRECISIONS}
    names = (files.tokenizer.name, *graphs.values())
    manifest = BundleManifest(
        tasks={task: graphs}, files={name: FileFacts.of(folder / name) for name in names}
    )
    files.manifest.write_text(manifest.model_dump_json())
    return folder


def larger_peer(bundle: Path, folder: Path, config: BertConfig = BASE) -> Path:
    """A classifier of transformers of the same size, with the tokenizer of the bundle."""
    AutoModelForSequenceClassification.from_config(config, trust_remote_code=False).save_pretrained(
        folder
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(Bundle.open(bundle).files.tokenizer),
        model_input_names=["input_ids", "attention_mask"],
        pad_token="[PAD]",
    )
    tokenizer.save_pretrained(folder)
    return folder
