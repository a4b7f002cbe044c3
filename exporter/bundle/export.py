"""From a checkpoint to a bundle: whole and checked, or not at all."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from batch.engines import slower_engines
from batch.engines.graph_file import GraphFile
from batch.machine.device import choose_device
from batch.scoring.scorer import LogitRunner, load_tokenizer, open_scorer
from batch.scoring.session import TaskSession
from exporter.bundle.card import model_card
from exporter.checks.probes import probe_texts, record_probes
from exporter.checks.torch_parity import verify
from exporter.decision.fit import Decision, choose_decision
from exporter.decision.reliability import diagram_path, draw_reliability
from exporter.decision.settings import apply_settings
from exporter.graph.trace import trace_graph
from exporter.precision.devices import checking_device
from exporter.precision.gate import Reference
from exporter.precision.reduce import (
    ExportedGroup,
    ExportedTask,
    available_precisions,
    finish_group,
)
from exporter.precision.shared_graph import text_groups
from schemas.arrays import BoolArray, Float32Array
from schemas.bundle.folder import MAX_FILE_BYTES, Bundle, BundleFiles, BundleManifest
from schemas.bundle.metadata import ArtefactMetadata, ArtefactMetrics, Verification
from schemas.bundle.probes import write_probes
from schemas.bundle.variants import Precision
from schemas.config import DecisionConfig
from schemas.errors import BundleError, CheckpointError, ExportError, listing
from schemas.io.files import FileFacts, atomic_folder, content_facts
from schemas.io.lock import lock_beside
from schemas.io.regular_file import read_regular_file
from schemas.text.model_text import ModelText, model_text
from schemas.text.tokens import TokenizedText
from trainer.checkpoint.reader import Checkpoint
from trainer.model.multitask import TaskPath

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
    trained = {task: about.decision for task, about in checkpoint.info.tasks.items()}
    decisions = apply_settings(trained, settings)
    wanted = available_precisions() if precisions is None else precisions
    with atomic_folder(output) as folder:
        files = BundleFiles(folder)
        shutil.copyfile(checkpoint.files.tokenizer, files.tokenizer)
        groups = text_groups({task: about.text for task, about in checkpoint.info.tasks.items()})
        exported = [_export_group(checkpoint, group, decisions, files, wanted) for group in groups]
        found = {task: about for group in exported for task, about in group.tasks.items()}
        published = {task: found[task].metadata for task in decisions}
        write_probes(files.probes, [found[task].probes for task in decisions])
        diagrams = {task: diagram_path(folder, task).name for task in published}
        shared = {files.shared(group[0]).name: group for group in groups if len(group) > 1}
        files.card.write_text(model_card(published, diagrams, shared), encoding="utf-8")
        _write_manifest(files, list(decisions), exported)
        open_again(folder)
    return Bundle.open(output)


def followed(output: Path) -> Path:
    """The folder that a link leads to, so that what is replaced is the bundle, not the link."""
    return output.resolve() if output.is_symlink() else output


def refuse_foreign(output: Path) -> None:
    """Refuse to replace a folder that holds anything but a bundle (ExportError)."""
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
            f"{output}: holds files that are not a bundle: {listing(sorted(present - known))}",
            hint="name another folder with --output, or move them away",
        )


def _export_group(
    checkpoint: Checkpoint,
    tasks: tuple[str, ...],
    decisions: Mapping[str, DecisionConfig],
    files: BundleFiles,
    precisions: Sequence[Precision],
) -> ExportedGroup:
    """Trace tasks that read the same text once, and write the files of each and of all."""
    log.info("%s: tracing", ", ".join(tasks))
    graph = trace_graph(checkpoint.model.joint(tasks))
    graph.write(files)
    exported = {task: _export_task(checkpoint, task, decisions[task], files) for task in tasks}
    sampled = tasks if "int8" in precisions else ()  # nothing else needs training texts
    sample = [ids for task in sampled for ids in checkpoint.sample(task)]
    return finish_group(graph, files, exported, sample, precisions)


def _export_task(
    checkpoint: Checkpoint, task: str, config: DecisionConfig, files: BundleFiles
) -> ExportedTask:
    about = checkpoint.info.tasks[task]
    max_tokens, pad_id = checkpoint.info.max_tokens, checkpoint.info.pad_id
    path_model = checkpoint.model.path(task)
    session = TaskSession(GraphFile.of_path(files.onnx(task)), choose_device("cpu"))
    tokenizer_json = read_regular_file(files.tokenizer, max_bytes=MAX_FILE_BYTES)
    tokenizer = load_tokenizer(tokenizer_json, str(files.tokenizer))
    runner = LogitRunner(session, tokenizer, max_tokens=max_tokens, pad_id=pad_id)
    texts, logits, gold = _run_heldout(checkpoint, task, runner)
    decision = choose_decision(logits, gold, config)
    draw_reliability(
        diagram_path(files.folder, task),
        task,
        before=decision.before,
        after=decision.after,
        gold=gold,
    )
    log.info("%s: comparing with torch", task)
    sessions = [session, *_other_engines(session)]
    verification = _verify_all(sessions, path_model, runner, texts, decision)
    made = probe_texts(tokenizer, about.text, max_tokens=max_tokens)
    probes, portability = record_probes(sessions, path_model, runner, task, made)
    metadata = ArtefactMetadata(
        task=task,
        kind=about.kind,
        labels=about.labels,
        thresholds=tuple(decision.thresholds.tolist()),
        calibration=decision.calibration,
        decision=decision.facts,
        max_tokens=max_tokens,
        pad_id=pad_id,
        text=about.text,
        tokenizer_sha256=content_facts(tokenizer_json).sha256,
        encoder=checkpoint.info.encoder,
        training=about.training,
        metrics=ArtefactMetrics(
            validation=decision.validation,
            cross_validated=decision.cross_validated,
            verification=verification,
            portability=portability,
        ),
        precision="fp32",
        cost=None,
        variants={},
        recalibration=None,
    )
    log.info(
        "%s: logits within %.1e of torch, %.3f %% of decisions differ, held-out micro-F1 %.3f, "
        "cross-validated %.3f",
        task,
        verification.max_logit_difference,
        100 * verification.differing_decisions,
        decision.validation.micro_f1,
        decision.cross_validated.micro_f1,
    )
    reference = Reference(
        texts=texts,
        gold=gold,
        logits=logits,
        config=config,
        decision=decision,
        tokenizer_json=tokenizer_json,
        max_tokens=max_tokens,
        pad_id=pad_id,
    )
    return ExportedTask(metadata, probes, reference, path_model)


def _verify_all(
    sessions: Sequence[TaskSession],
    path_model: TaskPath,
    runner: LogitRunner,
    texts: Sequence[TokenizedText],
    decision: Decision,
) -> Verification:
    """Compare every engine with torch; returns what the one furthest off was found to be."""
    found = [
        verify(
            session,
            path_model,
            runner,
            texts,
            calibration=decision.calibration,
            thresholds=decision.thresholds,
        )
        for session in sessions
    ]
    return max(found, key=lambda each: each.max_logit_difference)


def _other_engines(session: TaskSession) -> list[TaskSession]:
    """The same file by every other engine that can run it here."""
    return [
        TaskSession(session.graph, session.device, engine=engine)
        for engine in slower_engines(session.engine, "fp32", session.device)
    ]


def _run_heldout(
    checkpoint: Checkpoint, task: str, runner: LogitRunner
) -> tuple[list[TokenizedText], Float32Array, BoolArray]:
    """Held-out texts of a task with their logits and gold labels, both (rows, labels)."""
    _, gold = checkpoint.heldout(task)
    texts = runner.tokenize(_heldout_texts(checkpoint, task))
    log.info("%s: thresholds from %d held-out texts", task, len(texts))
    logits = runner.logits(texts)
    if not np.isfinite(logits).all():
        raise ExportError(
            f"{task}: the model gives logits that are not numbers", hint="train it again"
        )
    return texts, logits, gold


def _heldout_texts(checkpoint: Checkpoint, task: str) -> list[ModelText]:
    """What the model reads of the held-out texts of a task."""
    articles, _ = checkpoint.heldout(task)
    spec, max_tokens = checkpoint.info.tasks[task].text, checkpoint.info.max_tokens
    try:
        return [model_text(article, spec, max_tokens=max_tokens) for article in articles]
    except ValueError as error:
        raise CheckpointError(f"{checkpoint.files.heldout(task)}: {error}") from error


def _write_manifest(files: BundleFiles, tasks: list[str], groups: list[ExportedGroup]) -> None:
    found = {task: names for group in groups for task, names in group.files.items()}
    diagrams = [diagram_path(files.folder, task).name for task in tasks]
    shared = tuple(group.shared for group in groups if group.shared is not None)
    graphs = [
        name
        for names in (*found.values(), *(one.files for one in shared))
        for name in names.values()
    ]
    kept = [path.name for path in (files.tokenizer, files.card, files.probes)]
    manifest = BundleManifest(
        tasks={task: found[task] for task in tasks},
        shared=shared,
        files={
            name: FileFacts.of(files.folder / name)
            for name in dict.fromkeys([*kept, *graphs, *diagrams])
        },
    )
    files.manifest.write_text(manifest.model_dump_json(indent=1) + "\n", encoding="utf-8")


def open_again(folder: Path) -> None:
    """Open the finished files the way production will, and score a text with each.

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
