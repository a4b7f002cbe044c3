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
from exporter.graph import embed_metadata, write_graph
from exporter.probes import probe_texts, record_probes
from exporter.reliability import diagram_path, draw_reliability
from exporter.settings import apply_settings
from exporter.verify import verify
from schemas.bundle import Bundle, BundleFiles, BundleManifest
from schemas.config import DecisionConfig
from schemas.decision import FloatArray
from schemas.errors import BundleError, CheckpointError, ExportError, listing
from schemas.files import FileFacts, atomic_folder
from schemas.metadata import ArtefactMetadata, ArtefactMetrics
from schemas.probes import Probes, write_probes
from schemas.tasks import BoolArray
from schemas.text import ModelText, model_text
from schemas.tokens import TokenisedText
from trainer.checkpoint import Checkpoint

log = logging.getLogger(__name__)


def export_checkpoint(
    checkpoint_folder: Path, output: Path, settings: Sequence[str] = ()
) -> Bundle:
    """Write the bundle of a checkpoint: one ONNX file a task, all checked against torch.

    The folder appears under its name only when every file passed; an older bundle of that name is
    replaced. settings: "TASK.KEY=VALUE", changes to how the checkpoint's tasks decide.
    Raises CheckpointError, ExportError, BundleError, or UsageError for settings that cannot be.
    """
    refuse_foreign(output)
    checkpoint = Checkpoint.open(checkpoint_folder)
    trained = {task: about.decision for task, about in checkpoint.info.tasks.items()}
    decisions = apply_settings(trained, settings)
    with atomic_folder(output) as folder:
        files = BundleFiles(folder)
        shutil.copyfile(checkpoint.files.tokenizer, files.tokenizer)
        exported = {
            task: _export_task(checkpoint, task, decision, files)
            for task, decision in decisions.items()
        }
        published = {task: metadata for task, (metadata, _) in exported.items()}
        write_probes(files.probes, [probes for _, probes in exported.values()])
        diagrams = {task: diagram_path(folder, task).name for task in published}
        files.card.write_text(model_card(published, diagrams), encoding="utf-8")
        _write_manifest(files, list(published))
        open_again(folder, published)
    return Bundle.open(output)


def refuse_foreign(output: Path) -> None:
    """Refuse to replace a folder that holds anything but a bundle (ExportError)."""
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


def _export_task(
    checkpoint: Checkpoint, task: str, config: DecisionConfig, files: BundleFiles
) -> tuple[ArtefactMetadata, Probes]:
    about = checkpoint.info.tasks[task]
    max_tokens, pad_id = checkpoint.info.max_tokens, checkpoint.info.pad_id
    log.info("%s: exporting", task)
    path_model = checkpoint.model.path(task)
    write_graph(path_model, files.onnx(task))
    session = TaskSession(files.onnx(task), choose_device("cpu"))
    tokenizer = load_tokenizer(files.tokenizer)
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
    verification = verify(
        session,
        path_model,
        runner,
        texts,
        calibration=decision.calibration,
        thresholds=decision.thresholds,
    )
    made = probe_texts(tokenizer, about.text, max_tokens=max_tokens)
    probes, portability = record_probes(session, path_model, runner, task, made)
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
            portability=portability,
        ),
        recalibration=None,
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
    return metadata, probes


def _run_heldout(
    checkpoint: Checkpoint, task: str, runner: LogitRunner
) -> tuple[list[TokenisedText], FloatArray, BoolArray]:
    """Held-out texts of a task with their logits and gold labels, both (rows, labels)."""
    about = checkpoint.info.tasks[task]
    articles, gold = checkpoint.heldout(task)
    log.info("%s: thresholds from %d held-out texts", task, len(articles))
    try:
        texts = runner.tokenise(
            [
                model_text(article, about.text, max_tokens=checkpoint.info.max_tokens)
                for article in articles
            ]
        )
    except ValueError as error:
        raise CheckpointError(f"{checkpoint.files.heldout(task)}: {error}") from error
    logits = runner.logits(texts)
    if not np.isfinite(logits).all():
        raise ExportError(
            f"{task}: the model gives logits that are not numbers", hint="train it anew"
        )
    return texts, logits, gold


def _write_manifest(files: BundleFiles, tasks: list[str]) -> None:
    paths = [files.tokenizer, files.card, files.probes]
    for task in tasks:
        paths += [files.onnx(task), diagram_path(files.folder, task)]
    manifest = BundleManifest(
        tasks={task: files.onnx(task).name for task in tasks},
        files={path.name: FileFacts.of(path) for path in paths},
    )
    files.manifest.write_text(manifest.model_dump_json(indent=1) + "\n", encoding="utf-8")


def open_again(folder: Path, published: dict[str, ArtefactMetadata]) -> None:
    """Open the finished files the way production will, and score a text with each."""
    bundle = Bundle.open(folder)
    bundle.check_all()
    for task, metadata in published.items():
        scorer = open_scorer(bundle, task, choose_device("cpu"))
        if scorer.metadata != metadata:
            raise ExportError(f"{task}: the metadata read back differs from what was written")
        scorer.score([ModelText("One article.", cut=False)])
