"""From a checkpoint to a bundle: whole and checked, or not at all."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from batch.device import choose_device
from batch.scorer import LogitRunner, load_tokenizer, open_scorer
from batch.session import TaskSession
from exporter.card import model_card
from exporter.decision import choose_decision
from exporter.graph import embed_metadata, trace_graph
from exporter.groups import finish_shared, text_groups
from exporter.reliability import diagram_path, draw_reliability
from exporter.settings import apply_settings
from exporter.verify import verify
from schemas.bundle import Bundle, BundleFiles, BundleManifest, SharedGraph
from schemas.config import DecisionConfig
from schemas.decision import FloatArray
from schemas.errors import BundleError, CheckpointError, ExportError, listing
from schemas.files import FileFacts, atomic_folder
from schemas.metadata import ArtefactMetadata, ArtefactMetrics
from schemas.tasks import BoolArray
from schemas.text import ModelText, model_text
from schemas.tokens import TokenisedText
from trainer.checkpoint import Checkpoint

log = logging.getLogger(__name__)


def export_checkpoint(
    checkpoint_folder: Path, output: Path, settings: Sequence[str] = ()
) -> Bundle:
    """Write the bundle of a checkpoint: one ONNX file a task, all checked against torch, and one
    for each two or more tasks that read the same text.

    The folder appears under its name only when every file passed; an older bundle of that name is
    replaced. settings: "TASK.KEY=VALUE", changes to how the checkpoint's tasks decide.
    Raises CheckpointError, ExportError, BundleError, or UsageError for settings that cannot be.
    """
    _refuse_foreign(output)
    checkpoint = Checkpoint.open(checkpoint_folder)
    trained = {task: about.decision for task, about in checkpoint.info.tasks.items()}
    decisions = apply_settings(trained, settings)
    with atomic_folder(output) as folder:
        files = BundleFiles(folder)
        shutil.copyfile(checkpoint.files.tokenizer, files.tokenizer)
        groups = text_groups({task: about.text for task, about in checkpoint.info.tasks.items()})
        for group in groups:
            log.info("%s: tracing", ", ".join(group))
            trace_graph(checkpoint.model.joint(group)).write(files)
        published = {
            task: _export_task(checkpoint, task, decision, files)
            for task, decision in decisions.items()
        }
        shared = [group for group in groups if len(group) > 1]
        for group in shared:
            texts = _heldout_texts(checkpoint, group[0])
            finish_shared(files, [published[task] for task in group], texts)
        diagrams = {task: diagram_path(folder, task).name for task in published}
        card = model_card(
            published, diagrams, {files.shared(group[0]).name: group for group in shared}
        )
        files.card.write_text(card, encoding="utf-8")
        _write_manifest(files, list(published), shared)
        _open_again(folder, published)
    return Bundle.open(output)


def _refuse_foreign(output: Path) -> None:
    """Refuse to replace a folder that holds anything but a bundle."""
    present = {path.name for path in output.iterdir()} if output.exists() else set()
    try:
        known = {BundleFiles(output).manifest.name, *Bundle.open(output).manifest.files}
    except BundleError:
        known = set()
    if present - known:
        raise ExportError(
            f"{output}: holds files that are not a bundle: {listing(sorted(present - known))}",
            hint="name another folder with --output, or move them away",
        )


def _export_task(
    checkpoint: Checkpoint, task: str, config: DecisionConfig, files: BundleFiles
) -> ArtefactMetadata:
    about = checkpoint.info.tasks[task]
    max_tokens, pad_id = checkpoint.info.max_tokens, checkpoint.info.pad_id
    path_model = checkpoint.model.path(task)
    session = TaskSession(files.onnx(task), choose_device("cpu"))
    runner = LogitRunner(
        session, load_tokenizer(files.tokenizer), max_tokens=max_tokens, pad_id=pad_id
    )
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
    verification = verify(
        session,
        path_model,
        runner,
        texts,
        calibration=decision.calibration,
        thresholds=decision.thresholds,
    )
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
        tokenizer_sha256=FileFacts.of(files.tokenizer).sha256,
        encoder=checkpoint.info.encoder,
        training=about.training,
        metrics=ArtefactMetrics(
            validation=decision.validation,
            cross_validated=decision.cross_validated,
            verification=verification,
        ),
        precision="fp32",
        cost=None,
        variants={},
    )
    embed_metadata(files.onnx(task), metadata)
    log.info(
        "%s: logits within %.1e of torch, %.3f %% of decisions differ, held-out micro-F1 %.3f, "
        "cross-validated %.3f",
        task,
        verification.max_logit_difference,
        100 * verification.differing_decisions,
        decision.validation.micro_f1,
        decision.cross_validated.micro_f1,
    )
    return metadata


def _run_heldout(
    checkpoint: Checkpoint, task: str, runner: LogitRunner
) -> tuple[list[TokenisedText], FloatArray, BoolArray]:
    """Held-out texts of a task with their logits and gold labels, both (rows, labels)."""
    _, gold = checkpoint.heldout(task)
    texts = runner.tokenise(_heldout_texts(checkpoint, task))
    log.info("%s: thresholds from %d held-out texts", task, len(texts))
    logits = runner.logits(texts)
    if not np.isfinite(logits).all():
        raise ExportError(
            f"{task}: the model gives logits that are not numbers", hint="train it anew"
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


def _write_manifest(files: BundleFiles, tasks: list[str], shared: list[tuple[str, ...]]) -> None:
    paths = [files.tokenizer, files.card, *(files.shared(group[0]) for group in shared)]
    for task in tasks:
        paths += [files.onnx(task), diagram_path(files.folder, task)]
    manifest = BundleManifest(
        tasks={task: {"fp32": files.onnx(task).name} for task in tasks},
        shared=tuple(
            SharedGraph(tasks=group, files={"fp32": files.shared(group[0]).name})
            for group in shared
        ),
        files={path.name: FileFacts.of(path) for path in paths},
    )
    files.manifest.write_text(manifest.model_dump_json(indent=1) + "\n", encoding="utf-8")


def _open_again(folder: Path, published: dict[str, ArtefactMetadata]) -> None:
    """Open the finished files the way production will, and score a text with each."""
    bundle = Bundle.open(folder)
    bundle.check_all()
    for task, metadata in published.items():
        scorer = open_scorer(bundle, task, choose_device("cpu"), precision="fp32")
        if scorer.metadata != metadata:
            raise ExportError(f"{task}: the metadata read back differs from what was written")
        scorer.score([ModelText("One article.", cut=False)])
    for graph in bundle.manifest.shared:
        scorer = open_scorer(bundle, graph.tasks, choose_device("cpu"), precision="fp32")
        if scorer.tasks != tuple(published[task] for task in graph.tasks):
            raise ExportError(
                f"{listing(graph.tasks)}: the metadata read back differ from what was written"
            )
        scorer.score([ModelText("One article.", cut=False)])
