"""Bundles that read longer texts than their model was trained with, to measure speed."""

from __future__ import annotations

from pathlib import Path

from batch.engines.graph_file import GraphFile
from exporter.bundle.inspection import metadata_of
from exporter.graph.trace import embed_metadata
from schemas.bundle.folder import Bundle, BundleFiles, BundleManifest
from schemas.io.files import FileFacts


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
