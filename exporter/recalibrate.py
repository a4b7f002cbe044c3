"""Calibration and thresholds found anew on labelled rows, from a bundle alone."""

from __future__ import annotations

import hashlib
import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from batch.device import choose_device
from batch.gold import check_gold
from batch.options import RunOptions
from batch.plan import make_plan
from batch.rows import ChunkReader
from batch.scorer import Scorer, open_scorer
from exporter.card import model_card
from exporter.decision import Decision, choose_decision
from exporter.graph import embed_metadata
from exporter.inspection import read_metadata
from exporter.publish import open_again, refuse_foreign
from exporter.reliability import diagram_path, draw_reliability
from exporter.settings import change_decision
from schemas.bundle import Bundle, BundleFiles
from schemas.config import DecisionConfig
from schemas.decision import FloatArray
from schemas.errors import DataError
from schemas.files import FileFacts, atomic_folder
from schemas.metadata import ArtefactMetadata, Recalibration
from schemas.tasks import BoolArray, label_matrix
from schemas.text import EMPTY, ModelText

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
    Raises UsageError, BundleError, CorpusError, DataError or ExportError.
    """
    refuse_foreign(options.output)
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
        "%s: %d labelled rows (%d left out: no text, or no labels)",
        options.task,
        len(rows.texts),
        rows.left_out,
    )
    decision = choose_decision(_logits(scorer, rows), rows.gold, config)
    after = _decided_anew(before, decision, rows, bundle)
    with atomic_folder(options.output) as made:
        _write(bundle, BundleFiles(made), after, decision, rows.gold)
        open_again(made, {options.task: after})
    log.info(
        "%s: cross-validated micro-F1 %.3f, macro-F1 %.3f on these rows",
        options.task,
        decision.cross_validated.micro_f1,
        decision.cross_validated.macro_f1,
    )
    return Bundle.open(options.output)


def _read(options: RunOptions, scorer: Scorer) -> LabelledRows:
    """Read the labelled rows as a run would read them."""
    assert options.gold_column is not None
    metadata = scorer.metadata
    plan = make_plan(options, entity_markers=metadata.text.entity_markers)
    if not options.ignore_unknown_gold:
        check_gold(plan, options.gold_column, metadata.labels)
    reader = ChunkReader(plan, options, metadata.text, max_tokens=metadata.max_tokens)
    texts: list[ModelText] = []
    gold: list[list[str]] = []
    for chunk in plan.chunks:
        rows = reader.read(chunk)
        for text, names in zip(rows.texts, rows.gold, strict=True):
            if text is not None and text != EMPTY and names is not None:
                texts.append(text)
                gold.append(names)
    if not texts:
        raise DataError(
            f"{', '.join(options.corpus)}: no row has text and labels",
            hint=f"labels are read from column {options.gold_column!r}, text from "
            f"{options.text_column!r}",
        )
    fingerprints = "\n".join(file.source.fingerprint() for file in plan.files)
    return LabelledRows(
        texts=texts,
        gold=label_matrix(
            gold, metadata.labels, source=options.corpus[0], ignore_unknown=True
        ),  # those that may not be unknown were refused above
        data_sha256=hashlib.sha256(fingerprints.encode()).hexdigest(),
        left_out=plan.rows - len(texts),
    )


def _logits(scorer: Scorer, rows: LabelledRows) -> FloatArray:
    logits = scorer.runner.logits(scorer.runner.tokenise(rows.texts))
    if not np.isfinite(logits).all():
        raise DataError("the model gives logits that are not numbers", hint="train it anew")
    return logits


def _decided_anew(
    before: ArtefactMetadata, decision: Decision, rows: LabelledRows, bundle: Bundle
) -> ArtefactMetadata:
    metrics = before.metrics.model_copy(
        update={
            "validation": decision.validation,
            "cross_validated": decision.cross_validated,
        }
    )
    return before.model_copy(
        update={
            "thresholds": tuple(decision.thresholds.tolist()),
            "calibration": decision.calibration,
            "decision": decision.facts,
            "metrics": metrics,
            "recalibration": Recalibration(
                data_sha256=rows.data_sha256,
                rows=len(rows.texts),
                bundle_sha256=bundle.sha256,
            ),
        }
    )


def _write(
    bundle: Bundle,
    files: BundleFiles,
    after: ArtefactMetadata,
    decision: Decision,
    gold: BoolArray,
) -> None:
    """Copy the bundle, and write anew what calibration and thresholds have a part in."""
    for name in bundle.manifest.files:
        shutil.copyfile(bundle.files.folder / name, files.folder / name)
    graphs = {task: files.onnx(task) for task in bundle.manifest.tasks}
    embed_metadata(graphs[after.task], after)
    draw_reliability(
        diagram_path(files.folder, after.task),
        after.task,
        before=decision.before,
        after=decision.after,
        gold=gold,
    )
    tasks = {task: read_metadata(path) for task, path in graphs.items()}
    diagrams = {task: diagram_path(files.folder, task).name for task in tasks}
    files.card.write_text(model_card(tasks, diagrams), encoding="utf-8")
    facts = {name: FileFacts.of(files.folder / name) for name in bundle.manifest.files}
    manifest = bundle.manifest.model_copy(update={"files": facts})
    files.manifest.write_text(manifest.model_dump_json(indent=1) + "\n", encoding="utf-8")
