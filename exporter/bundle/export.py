"""From a checkpoint to a bundle: whole and checked, or not at all."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from batch.scoring.scorer import open_scorer
from exporter.bundle.card import model_card
from exporter.bundle.task_export import TaskExport
from exporter.checks.torch_outputs import TorchOutputs
from exporter.decision.settings import apply_settings
from exporter.graph.trace import trace_graph
from exporter.kinds import EXPORTER_KINDS
from exporter.precision.devices import checking_device
from exporter.precision.reduce import ExportedGroup, available_precisions, finish_group
from exporter.precision.shared_graph import text_groups
from schemas.bundle.folder import Bundle, BundleFiles, BundleManifest
from schemas.bundle.probes import write_probes
from schemas.bundle.variants import Precision
from schemas.errors import BundleError, ExportError, listing
from schemas.io.files import FileFacts, atomic_folder
from schemas.io.lock import lock_beside
from schemas.kinds import KINDS
from schemas.kinds.base import OutputSpec
from schemas.tasks.sections import Section
from schemas.text.model_text import ModelText
from trainer.checkpoint.reader import Checkpoint

log = logging.getLogger(__name__)


def export_checkpoint(
    checkpoint_folder: Path,
    output: Path,
    settings: Sequence[str] = (),
    precisions: Sequence[Precision] | None = None,
) -> Bundle:
    """Write the bundle of a checkpoint: one ONNX file a task, all checked against torch, and one
    for each two or more tasks that read the same text.

    The folder appears under its name only when every file passed; an older bundle of that name is
    replaced. settings: "TASK.KEY=VALUE", changes to how the checkpoint's tasks decide. precisions:
    those to try beside fp32; None takes what this machine has. One that fails its gate is left out.
    Raises CheckpointError, ExportError, BundleError, UsageError for settings that cannot be, or
    LockedError while another process writes there.
    """
    output = followed(output)
    with lock_beside(output, "export"):
        return _export(checkpoint_folder, output, settings, precisions)


def _export(
    checkpoint_folder: Path,
    output: Path,
    settings: Sequence[str],
    precisions: Sequence[Precision] | None,
) -> Bundle:
    refuse_foreign(output)
    checkpoint = Checkpoint.open(checkpoint_folder)
    infos = checkpoint.info.tasks
    trained = {task: info.options.decision for task, info in infos.items()}
    configs = apply_settings(trained, settings)
    wanted = available_precisions() if precisions is None else precisions
    with atomic_folder(output) as folder:
        files = BundleFiles(folder)
        shutil.copyfile(checkpoint.files.tokenizer, files.tokenizer)
        groups = text_groups(infos)
        exported = [_export_group(checkpoint, group, configs, files, wanted) for group in groups]
        _write_bundle(files, list(configs), exported)
        open_again(folder)
    return Bundle.open(output)


def followed(output: Path) -> Path:
    """The folder that a link leads to, so that what is replaced is the bundle, not the link."""
    return output.resolve() if output.is_symlink() else output


def refuse_foreign(output: Path) -> None:
    """Refuse to replace a folder that contains anything but a bundle (ExportError)."""
    if output.exists() and not output.is_dir():
        raise ExportError(f"{output}: is a file, not a folder", hint="name a folder with --output")
    files = BundleFiles(output)
    present = {path.name for path in output.iterdir()} if output.exists() else set()
    try:
        listed = Bundle.open(output).manifest.files
        known = {files.manifest.name, files.signature.name, *listed}
    except BundleError:
        known = set()
    if present - known:
        raise ExportError(
            f"{output}: contains files that are not a bundle: {listing(sorted(present - known))}",
            hint="name another folder with --output, or move them away",
        )


def _export_group(
    checkpoint: Checkpoint,
    tasks: tuple[str, ...],
    configs: Mapping[str, Section],
    files: BundleFiles,
    precisions: Sequence[Precision],
) -> ExportedGroup:
    """Trace tasks that read the same text once, and write the files of each and of all."""
    log.info("%s: tracing", ", ".join(tasks))
    outputs = {task: _output(checkpoint, task) for task in tasks}
    graph = trace_graph(checkpoint.model.joint(tasks), outputs)
    graph.write(files)
    torch_outputs = TorchOutputs(checkpoint.model, tasks)
    exported = {
        task: TaskExport(checkpoint, task, configs[task], files, torch_outputs.of_task(task)).run()
        for task in tasks
    }
    sampled = tasks if "int8" in precisions else ()  # nothing else needs training texts
    sample = [ids for task in sampled for ids in checkpoint.sample(task)]
    return finish_group(graph, files, exported, sample, precisions)


def _output(checkpoint: Checkpoint, task: str) -> OutputSpec:
    """Output of a task in the file of this task alone, with the extra output that it may have."""
    kind, head = KINDS[checkpoint.info.tasks[task].kind], checkpoint.model.head(task)
    return kind.output(head.width).with_neighbours(head.neighbours)


def _write_bundle(files: BundleFiles, tasks: list[str], groups: list[ExportedGroup]) -> None:
    """Write probes, model card and, last, the manifest."""
    exported = {task: one for group in groups for task, one in group.tasks.items()}
    published = {task: exported[task].metadata.fp32 for task in tasks}
    write_probes(files.probes, [exported[task].probes for task in tasks])
    figures = {
        task: EXPORTER_KINDS[metadata.kind].figure_path(files.folder, task).name
        for task, metadata in published.items()
    }
    shared_graphs = tuple(group.shared for group in groups if group.shared is not None)
    shared = {graph.files["fp32"]: graph.tasks for graph in shared_graphs}
    files.card.write_text(model_card(published, figures, shared), encoding="utf-8")
    names = {task: of_task for group in groups for task, of_task in group.files.items()}
    graphs = [
        name
        for of_graph in (*names.values(), *(graph.files for graph in shared_graphs))
        for name in of_graph.values()
    ]
    others = [path.name for path in (files.tokenizer, files.card, files.probes)]
    manifest = BundleManifest(
        tasks={task: names[task] for task in tasks},
        shared=shared_graphs,
        files={
            name: FileFacts.of(files.folder / name)
            for name in dict.fromkeys([*others, *graphs, *figures.values()])
        },
    )
    files.manifest.write_text(manifest.model_dump_json(indent=1) + "\n", encoding="utf-8")


def open_again(folder: Path) -> None:
    """Open the finished files as `batch-classify` does, and score a text with each.

    fp16 without CUDA is run by the CPU, as it was checked.
    """
    bundle = Bundle.open(folder)
    bundle.check_all()
    alone = [(task,) for task in bundle.manifest.tasks]
    for tasks in (*alone, *(graph.tasks for graph in bundle.manifest.shared)):
        for precision in bundle.precisions(tasks):
            device = checking_device(precision)
            scorer = open_scorer(bundle, tasks, device, precision=precision)
            scorer.score([ModelText("One article.", cut=False)])
