"""Calibration and thresholds found again on labelled rows, from a bundle alone."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydantic import BaseModel

from batch.engines.graph_file import GraphFile
from batch.machine.device import choose_device
from batch.options import CorpusOptions
from batch.scoring.scorer import Scorer, open_scorer
from batch.scoring.session import open_session
from exporter.bundle.card import model_card
from exporter.bundle.export import followed, open_again, refuse_foreign
from exporter.bundle.inspection import metadata_of, read_metadata
from exporter.bundle.labelled_rows import LabelledRows, read_labelled_rows
from exporter.decision.settings import change_decision
from exporter.graph.trace import embed_metadata
from exporter.kinds import EXPORTER_KINDS
from exporter.kinds.base import LabelledOutputs
from exporter.precision.devices import checking_device
from exporter.precision.gate import Reference, fit_variant
from schemas.bundle.facts import Recalibration
from schemas.bundle.folder import Bundle, BundleFiles, SharedGraph
from schemas.bundle.metadata import ArtefactMetadata, VariantFacts, VariantMetadata
from schemas.bundle.variants import PRECISION_SPECS, Precision
from schemas.errors import DataError, ExportError, UsageError
from schemas.io.files import FileFacts, atomic_folder
from schemas.io.lock import lock_beside
from schemas.kinds import KINDS
from schemas.tasks.parents import parents_of

log = logging.getLogger(__name__)


def recalibrate(
    folder: Path, task: str, corpus: CorpusOptions, output: Path, settings: Sequence[str] = ()
) -> Bundle:
    """Write a bundle with calibration and thresholds of one task fitted to labelled rows.

    folder: of the bundle. corpus: labelled rows, and their columns. output: may be the bundle
    itself; it is replaced whole or not at all, and is not signed.
    settings: "KEY=VALUE", changes to how the task decides.
    Raises UsageError, BundleError, CorpusError, DataError, ExportError or LockedError.
    """
    target = followed(output)
    with lock_beside(target, "recalibration"):
        refuse_foreign(target)
        bundle = Bundle.open(folder)
        bundle.check_all()
        return _recalibrate(bundle, task, corpus, target, settings)


def _recalibrate(
    bundle: Bundle, task: str, corpus: CorpusOptions, output: Path, settings: Sequence[str]
) -> Bundle:
    scorer = open_scorer(bundle, (task,), choose_device("cpu"), precision="fp32")
    before = scorer.metadata
    if not KINDS[before.kind].HAS_LABELS:
        raise UsageError(
            f"--task {task}: a task of kind {before.kind!r} decides nothing that labelled rows "
            "could change"
        )
    config = change_decision(
        EXPORTER_KINDS[before.kind].config_of(before, before.evidence), settings
    )
    rows = read_labelled_rows(corpus, scorer, leave_out=output)
    log.info(
        "%s: %d labelled rows (%d left out: no text, or not labelled: null)",
        task,
        len(rows.texts),
        rows.left_out,
    )
    reference = _reference(scorer, rows, config, bundle)
    after = _recalibrated(bundle, before, reference, rows)
    with atomic_folder(output) as temporary:
        _write(bundle, BundleFiles(temporary), task, after, reference)
        open_again(temporary)
    scores = reference.fitted.cross_validated
    log.info("%s: cross-validated %s on these rows", task, scores.summary())
    return Bundle.open(output)


def _reference(scorer: Scorer, rows: LabelledRows, config: BaseModel, bundle: Bundle) -> Reference:
    """Outputs of fp32 for the rows, and the decision fitted to them."""
    metadata = scorer.metadata
    texts = scorer.runner.tokenize(rows.texts)
    (outputs,) = scorer.runner.outputs(texts)
    if not all(np.isfinite(output).all() for output in outputs):
        raise DataError("the model gives outputs that are not numbers", hint="train it again")
    parents = parents_of(metadata)
    labelled = LabelledOutputs(metadata.labels, texts, outputs, rows.targets, parents)
    return Reference(
        task=metadata.task,
        kind=metadata.kind,
        rows=labelled,
        config=config,
        fitted=EXPORTER_KINDS[metadata.kind].fit(labelled, config),
        output=metadata.output,
        tokenizer_json=bundle.read_tokenizer(),
        max_tokens=metadata.max_tokens,
        pad_id=metadata.pad_id,
    )


def _recalibrated(
    bundle: Bundle, before: ArtefactMetadata, reference: Reference, rows: LabelledRows
) -> VariantMetadata:
    """Metadata of the files of the task, with the new decision."""
    fitted = reference.fitted
    metrics = before.metrics.model_copy(
        update={"validation": fitted.validation, "cross_validated": fitted.cross_validated}
    )
    facts: dict[Precision, VariantFacts] = {
        precision: _variant(bundle, precision, reference)
        for precision in bundle.precisions((before.task,))
        if precision != "fp32"
    }
    recalibration = Recalibration(
        data_sha256=rows.data_sha256, rows=len(rows.texts), bundle_sha256=bundle.sha256
    )
    fp32 = before.decided_by(fitted.decision, fitted.evidence).model_copy(
        update={"metrics": metrics, "recalibration": recalibration}
    )
    return fp32.with_variants(facts)


def _variant(bundle: Bundle, precision: Precision, reference: Reference) -> VariantFacts:
    """A reduced precision of the task, decided by its own outputs for the rows.

    It is run where an export on this machine would check it.
    Raises DeviceError if this machine cannot run it, ExportError if it does not pass its gate.
    """
    task, device = reference.task, checking_device(precision)
    if device.kind != PRECISION_SPECS[precision].only_on:
        log.info("%s in %s: fitted to outputs of the CPU (%s)", task, precision, device.why)
    session, (before,) = open_session(bundle, (task,), device, precision=precision)
    assert before.cost is not None
    (outputs,) = reference.runner(session).outputs(reference.texts)
    facts = fit_variant(reference, outputs, kept_nodes=before.cost.kept_nodes, device=device.kind)
    if PRECISION_SPECS[precision].has_own_file:
        facts = facts.model_copy(update={"verification": before.metrics.verification})
    problem = reference.problem(facts.cost)
    if problem is not None:
        raise ExportError(
            f"{task} in {precision}: does not pass its gate on these rows: {problem}",
            hint="take more rows, or export the checkpoint without it (--precision fp32)",
        )
    return facts


def _write(
    bundle: Bundle,
    files: BundleFiles,
    task: str,
    after: VariantMetadata,
    reference: Reference,
) -> None:
    """Copy the bundle, and write again what the decision is part of."""
    for name in bundle.manifest.files:
        (files.folder / name).write_bytes(bundle.read(name))
    precisions = list(bundle.precisions((task,)))
    for precision in precisions:
        embed_metadata(files.onnx(task, precision), [after.of_file(precision)])
    for graph in bundle.manifest.shared:
        if task in graph.tasks:
            for precision in graph.files:
                _write_shared(files, graph, after.of_file(precision), precision)
    exporter = EXPORTER_KINDS[reference.kind]
    path = exporter.figure_path(files.folder, task)
    exporter.figure(path, task, reference.fitted, reference.rows)
    tasks = {
        name: metadata_of(GraphFile.of_path(files.onnx(name)), name)
        for name in bundle.manifest.tasks
    }
    figures = {
        name: EXPORTER_KINDS[metadata.kind].figure_path(files.folder, name).name
        for name, metadata in tasks.items()
    }
    shared = {graph.files["fp32"]: graph.tasks for graph in bundle.manifest.shared}
    files.card.write_text(model_card(tasks, figures, shared), encoding="utf-8")
    facts = {name: FileFacts.of(files.folder / name) for name in bundle.manifest.files}
    manifest = bundle.manifest.model_copy(update={"files": facts})
    files.manifest.write_text(manifest.model_dump_json(indent=1) + "\n", encoding="utf-8")


def _write_shared(
    files: BundleFiles, graph: SharedGraph, metadata: ArtefactMetadata, precision: Precision
) -> None:
    """Put the metadata of a task into a file that it shares with others."""
    path = files.folder / graph.files[precision]
    by_task = {**read_metadata(GraphFile.of_path(path)), metadata.task: metadata}
    embed_metadata(path, [by_task[task] for task in graph.tasks])
