"""From a checkpoint to a bundle: whole and checked, or not at all."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import numpy as np

from batch.device import choose_device
from batch.scorer import LogitRunner, load_tokenizer, open_scorer
from batch.session import TaskSession
from exporter.calibrate import fit_calibration
from exporter.card import model_card
from exporter.graph import embed_metadata, write_graph
from exporter.verify import verify
from schemas.bundle import Bundle, BundleFiles, BundleManifest
from schemas.decision import calibrate, decide
from schemas.errors import BundleError, CheckpointError, ExportError, listing
from schemas.files import FileFacts, atomic_folder
from schemas.metadata import ArtefactMetadata, ArtefactMetrics
from schemas.metrics import Hits
from schemas.text import ModelText, model_text
from schemas.thresholds import label_thresholds
from trainer.checkpoint import Checkpoint

log = logging.getLogger(__name__)


def export_checkpoint(checkpoint_folder: Path, output: Path) -> Bundle:
    """Write the bundle of a checkpoint: one ONNX file a task, all checked against torch.

    The folder appears under its name only when every file passed; an older bundle of that name is
    replaced. Raises CheckpointError, ExportError, or BundleError.
    """
    _refuse_foreign(output)
    checkpoint = Checkpoint.open(checkpoint_folder)
    with atomic_folder(output) as folder:
        files = BundleFiles(folder)
        shutil.copyfile(checkpoint.files.tokenizer, files.tokenizer)
        published = {task: _export_task(checkpoint, task, files) for task in checkpoint.info.tasks}
        files.card.write_text(model_card(published), encoding="utf-8")
        _write_manifest(files, list(published))
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


def _export_task(checkpoint: Checkpoint, task: str, files: BundleFiles) -> ArtefactMetadata:
    about = checkpoint.info.tasks[task]
    max_tokens, pad_id = checkpoint.info.max_tokens, checkpoint.info.pad_id
    log.info("%s: exporting", task)
    path_model = checkpoint.model.path(task)
    write_graph(path_model, files.onnx(task))
    session = TaskSession(files.onnx(task), choose_device("cpu"))
    runner = LogitRunner(
        session, load_tokenizer(files.tokenizer), max_tokens=max_tokens, pad_id=pad_id
    )
    articles, gold = checkpoint.heldout(task)
    log.info("%s: thresholds from %d held-out texts", task, len(articles))
    try:
        built = [model_text(article, about.text, max_tokens=max_tokens) for article in articles]
    except ValueError as error:
        raise CheckpointError(f"{checkpoint.files.heldout(task)}: {error}") from error
    texts = runner.tokenise(built)
    logits = runner.logits(texts)
    if not np.isfinite(logits).all():
        raise ExportError(
            f"{task}: the model gives logits that are not numbers", hint="train it anew"
        )
    calibration = fit_calibration(logits, gold)
    probabilities = calibrate(logits, calibration)
    thresholds = label_thresholds(probabilities, gold)
    log.info("%s: comparing with torch", task)
    verification = verify(
        session, path_model, runner, texts, calibration=calibration, thresholds=thresholds
    )
    validation = Hits.count(gold, decide(probabilities, thresholds)).scores()
    metadata = ArtefactMetadata(
        task=task,
        kind=about.kind,
        labels=about.labels,
        thresholds=tuple(thresholds.tolist()),
        calibration=calibration,
        max_tokens=max_tokens,
        pad_id=pad_id,
        text=about.text,
        tokenizer_sha256=FileFacts.of(files.tokenizer).sha256,
        encoder=checkpoint.info.encoder,
        training=about.training,
        metrics=ArtefactMetrics(validation=validation, verification=verification),
    )
    embed_metadata(files.onnx(task), metadata)
    log.info(
        "%s: logits within %.1e of torch, %.3f %% of decisions differ, held-out micro-F1 %.3f",
        task,
        verification.max_logit_difference,
        100 * verification.differing_decisions,
        validation.micro_f1,
    )
    return metadata


def _write_manifest(files: BundleFiles, tasks: list[str]) -> None:
    paths = [files.tokenizer, files.card, *(files.onnx(task) for task in tasks)]
    manifest = BundleManifest(
        tasks={task: files.onnx(task).name for task in tasks},
        files={path.name: FileFacts.of(path) for path in paths},
    )
    files.manifest.write_text(manifest.model_dump_json(indent=1) + "\n", encoding="utf-8")


def _open_again(folder: Path, published: dict[str, ArtefactMetadata]) -> None:
    """Open the finished files the way production will, and score a text with each."""
    bundle = Bundle.open(folder)
    bundle.check_all()
    for task, metadata in published.items():
        scorer = open_scorer(bundle, task, choose_device("cpu"))
        if scorer.metadata != metadata:
            raise ExportError(f"{task}: the metadata read back differs from what was written")
        scorer.score([ModelText("One article.", cut=False)])
