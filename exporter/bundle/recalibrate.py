"""Calibration and thresholds found again on labelled rows, from a bundle alone."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from batch.corpus.reader import ChunkReader
from batch.corpus.sources.hashing import check_unchanged, fingerprint_file
from batch.corpus.sources.urls import label_of
from batch.engines.graph_file import GraphFile
from batch.machine.device import choose_device
from batch.options import RunOptions
from batch.pipeline.run import check_gold_labels, plan_run
from batch.scoring.scorer import Scorer, open_scorer
from batch.scoring.session import open_session
from exporter.bundle.card import model_card
from exporter.bundle.export import followed, open_again, refuse_foreign
from exporter.bundle.inspection import metadata_of, read_metadata
from exporter.decision.fit import choose_decision
from exporter.decision.reliability import diagram_path, draw_reliability
from exporter.decision.settings import change_decision
from exporter.graph.trace import embed_metadata, embed_shared_metadata
from exporter.precision.devices import checking_device
from exporter.precision.gate import Reference, fit_variant, gate
from schemas.arrays import BoolArray
from schemas.bundle.folder import Bundle, BundleFiles, SharedGraph
from schemas.bundle.metadata import ArtefactMetadata, Recalibration, VariantFacts
from schemas.bundle.variants import ONLY_ON, OWN_FILE, Precision
from schemas.config import DecisionConfig
from schemas.errors import DataError, ExportError
from schemas.io.files import FileFacts, atomic_folder
from schemas.io.lock import lock_beside
from schemas.tasks.task import label_matrix
from schemas.text.model_text import EMPTY, ModelText

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LabelledRows:
    """Rows with text and gold labels.

    gold: (rows, labels) bool. data_sha256: over the hashes of the files. left_out: rows that have
    no text or no labels.
    """

    texts: list[ModelText]
    gold: BoolArray
    data_sha256: str
    left_out: int


def recalibrate(options: RunOptions, settings: Sequence[str] = ()) -> Bundle:
    """Write a bundle whose task decides by what the corpus teaches; all else stays.

    options: bundle, task, labelled corpus, and its columns. The output may be the bundle itself;
    it is replaced whole or not at all, and is not signed.
    settings: "KEY=VALUE", changes to how the task decides; else it does as it did.
    Raises UsageError, BundleError, CorpusError, DataError, ExportError or LockedError.
    """
    output = followed(options.output)
    with lock_beside(output, "recalibration"):
        return _recalibrate(options, output, settings)


def _recalibrate(options: RunOptions, output: Path, settings: Sequence[str]) -> Bundle:
    refuse_foreign(output)
    bundle = Bundle.open(options.bundle)
    bundle.check_all()
    scorer = open_scorer(bundle, options.task, choose_device("cpu"), precision="fp32")
    before = scorer.metadata
    asked = DecisionConfig(
        calibration=before.decision.calibration, thresholds=before.decision.thresholds
    )
    config = change_decision(asked, settings)
    rows = _read(options, scorer)
    log.info(
        "%s: %d labelled rows (%d left out: no text, or not labelled: null)",
        options.task,
        len(rows.texts),
        rows.left_out,
    )
    reference = _reference(scorer, rows, config, bundle)
    after = _decided_anew(bundle, before, reference, rows)
    with atomic_folder(output) as made:
        _write(bundle, BundleFiles(made), options.task, after, reference)
        open_again(made)
    decision = reference.decision
    log.info(
        "%s: cross-validated micro-F1 %.3f, macro-F1 %.3f on these rows",
        options.task,
        decision.cross_validated.micro_f1,
        decision.cross_validated.macro_f1,
    )
    return Bundle.open(output)


def _read(options: RunOptions, scorer: Scorer) -> LabelledRows:
    """Read the labelled rows as a run would read them."""
    metadata = scorer.metadata
    plan = plan_run(options, scorer, keep_columns=False)
    check_gold_labels(options, plan, scorer)
    if (left_out := plan.listing.summary()) is not None:
        log.warning("%s", left_out)
    reader = ChunkReader(plan, options, metadata.text, max_tokens=metadata.max_tokens)
    texts: list[ModelText] = []
    gold: list[list[str]] = []
    for chunk in plan.chunks:
        rows = reader.read(chunk)
        for text, names in zip(rows.texts, rows.gold[metadata.task], strict=True):
            if text is not None and text != EMPTY and names is not None:
                texts.append(text)
                gold.append(names)
    if not texts:
        raise DataError(
            f"{', '.join(map(label_of, options.corpus))}: no row has text and labels",
            hint=f"labels are read from column {plan.tasks.gold[metadata.task]!r}, text from "
            f"{options.text_column!r}",
        )
    fingerprints = {file.source.name: fingerprint_file(file.source) for file in plan.files}
    check_unchanged(plan.listing, fingerprints)
    return LabelledRows(
        texts=texts,
        gold=label_matrix(
            gold, metadata.labels, source=label_of(options.corpus[0]), ignore_unknown=True
        ),  # those that may not be unknown were refused above
        data_sha256=hashlib.sha256("\n".join(fingerprints.values()).encode()).hexdigest(),
        left_out=plan.rows - len(texts),
    )


def _reference(
    scorer: Scorer, rows: LabelledRows, config: DecisionConfig, bundle: Bundle
) -> Reference:
    """What fp32 says of the rows, and how it decides by them."""
    texts = scorer.runner.tokenize(rows.texts)
    logits = scorer.runner.logits(texts)
    if not np.isfinite(logits).all():
        raise DataError("the model gives logits that are not numbers", hint="train it again")
    return Reference(
        texts=texts,
        gold=rows.gold,
        logits=logits,
        config=config,
        decision=choose_decision(logits, rows.gold, config),
        tokenizer_json=bundle.read_tokenizer(),
        max_tokens=scorer.metadata.max_tokens,
        pad_id=scorer.metadata.pad_id,
    )


def _decided_anew(
    bundle: Bundle, before: ArtefactMetadata, reference: Reference, rows: LabelledRows
) -> dict[Precision, ArtefactMetadata]:
    """What each file of the task says of itself, by a precision that it serves."""
    decision = reference.decision
    metrics = before.metrics.model_copy(
        update={
            "validation": decision.validation,
            "cross_validated": decision.cross_validated,
        }
    )
    facts: dict[Precision, VariantFacts] = {
        precision: _variant(bundle, before.task, precision, reference)
        for precision in bundle.precisions(before.task)
        if precision != "fp32"
    }
    whole = before.model_copy(
        update={
            "thresholds": tuple(decision.thresholds.tolist()),
            "calibration": decision.calibration,
            "decision": decision.facts,
            "metrics": metrics,
            "variants": facts,
            "recalibration": Recalibration(
                data_sha256=rows.data_sha256,
                rows=len(rows.texts),
                bundle_sha256=bundle.sha256,
            ),
        }
    )
    inside = {each: found for each, found in facts.items() if each not in OWN_FILE}
    files: dict[Precision, ArtefactMetadata] = {
        each: whole.at(each) for each in facts if each in OWN_FILE
    }
    return {"fp32": whole.model_copy(update={"variants": inside}), **files}


def _variant(bundle: Bundle, task: str, precision: Precision, reference: Reference) -> VariantFacts:
    """A reduced precision of the task, decided by its own logits of the rows.

    It is run where an export on this machine would check it.
    Raises DeviceError if this machine cannot run it, ExportError if it does not pass its gate.
    """
    device = checking_device(precision)
    if device.kind != ONLY_ON[precision]:
        log.info("%s in %s: fitted on what the CPU makes of it (%s)", task, precision, device.why)
    session, (before,) = open_session(bundle, task, device, precision=precision)
    assert before.cost is not None
    logits = reference.runner(session).logits(reference.texts)
    facts = fit_variant(reference, logits, kept=before.cost.kept, device=device.kind)
    if precision in OWN_FILE:
        facts = facts.model_copy(update={"verification": before.metrics.verification})
    problem = gate(facts.cost)
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
    after: Mapping[Precision, ArtefactMetadata],
    reference: Reference,
) -> None:
    """Copy the bundle, and write again what calibration and thresholds have a part in."""
    for name in bundle.manifest.files:
        (files.folder / name).write_bytes(bundle.read(name))
    for precision, metadata in after.items():
        embed_metadata(files.onnx(task, precision), metadata)
    for graph in bundle.manifest.shared:
        if task in graph.tasks:
            _write_shared(files, graph, after)
    decision = reference.decision
    draw_reliability(
        diagram_path(files.folder, task),
        task,
        before=decision.before,
        after=decision.after,
        gold=reference.gold,
    )
    tasks = {
        each: metadata_of(GraphFile.of_path(files.onnx(each)), each)
        for each in bundle.manifest.tasks
    }
    diagrams = {each: diagram_path(files.folder, each).name for each in tasks}
    shared = {graph.files["fp32"]: graph.tasks for graph in bundle.manifest.shared}
    files.card.write_text(model_card(tasks, diagrams, shared), encoding="utf-8")
    facts = {name: FileFacts.of(files.folder / name) for name in bundle.manifest.files}
    manifest = bundle.manifest.model_copy(update={"files": facts})
    files.manifest.write_text(manifest.model_dump_json(indent=1) + "\n", encoding="utf-8")


def _write_shared(
    files: BundleFiles, graph: SharedGraph, after: Mapping[Precision, ArtefactMetadata]
) -> None:
    """Let the files that the task shares with others say the same of it as its own."""
    for precision, metadata in after.items():
        if precision in graph.files:
            path = files.folder / graph.files[precision]
            stored = {**read_metadata(GraphFile.of_path(path)), metadata.task: metadata}
            embed_shared_metadata(path, [stored[task] for task in graph.tasks])
