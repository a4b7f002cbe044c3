"""Multiclass: calibration of the softmax, fitted to held-out rows.

Fitting and drawing are imported late: `verify` and `inspect` work without the training stack.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from pydantic import BaseModel

from exporter.kinds.base import (
    LABEL_LOSSES,
    CardParts,
    Fitted,
    LabelledOutputs,
    reliability_caption,
)
from schemas.arrays import Float32Array
from schemas.bundle.metadata import ArtefactMetadata
from schemas.decision.classes import (
    ClassDecision,
    ClassDecisionConfig,
    ClassDecisionEvidence,
    ClassScores,
    class_probabilities,
)
from schemas.kinds.multiclass import one_hot
from schemas.markdown import markdown_table, markdown_text

LABEL_COLUMNS = ("label", "training rows", "held-out rows", "ECE before", "ECE after", "Brier")


class MulticlassExporterKind:
    """See `exporter.kinds.base.ExporterKind`."""

    MAX_LOSSES = LABEL_LOSSES

    def targets(self, gold: Any, outputs: Sequence[Float32Array]) -> Any:
        """Gold values."""
        return gold

    def fit(self, rows: LabelledOutputs, config: BaseModel) -> Fitted:
        """Choose a calibration."""
        from exporter.decision.classes import choose_class_decision

        assert isinstance(config, ClassDecisionConfig)
        chosen = choose_class_decision(np.stack(rows.unseen), rows.targets, config)
        return Fitted(
            decision=chosen.decision,
            evidence=chosen.evidence,
            validation=chosen.validation,
            cross_validated=chosen.cross_validated,
            figure_data=chosen,
        )

    def config_of(self, decision: BaseModel, evidence: BaseModel) -> ClassDecisionConfig:
        """Calibration and least probability, as they were asked for."""
        assert isinstance(decision, ClassDecision)
        assert isinstance(evidence, ClassDecisionEvidence)
        return ClassDecisionConfig(
            calibration=evidence.calibration, least_probability=decision.least_probability
        )

    def settle(
        self, variant: Fitted, rows: LabelledOutputs, before: Fitted, config: BaseModel
    ) -> ClassDecision:
        """The variant's own calibration: nothing in it jumps when a logit moves a little."""
        assert isinstance(variant.decision, ClassDecision)
        return variant.decision

    def output_error(
        self, outputs: Sequence[Float32Array], expected: Sequence[Float32Array], decision: BaseModel
    ) -> Float32Array:
        """Distance of probabilities, both by the calibration of fp32."""
        assert isinstance(decision, ClassDecision)
        ours, theirs = (
            class_probabilities(np.stack(logits), decision.calibration)
            for logits in (outputs, expected)
        )
        return np.asarray(np.abs(ours - theirs), dtype=np.float32)

    def card(self, metadata: ArtefactMetadata) -> CardParts:
        """Scores, calibration, and a table of the labels."""
        fitted_on, unseen = metadata.metrics.validation, metadata.metrics.cross_validated
        evidence = metadata.evidence
        assert isinstance(fitted_on, ClassScores)
        assert isinstance(unseen, ClassScores)
        assert isinstance(metadata, ClassDecision)
        assert isinstance(evidence, ClassDecisionEvidence)
        least = metadata.least_probability
        before, after = fmean(evidence.before.ece), fmean(evidence.after.ece)
        return CardParts(
            scores=[
                f"- on {unseen.rows} held-out texts, each decided with a calibration fitted "
                f"without it: accuracy {unseen.accuracy:.3f}, macro-F1 {unseen.macro_f1:.3f}",
                "- on the same texts with the calibration fitted to all of them: accuracy "
                f"{fitted_on.accuracy:.3f}, macro-F1 {fitted_on.macro_f1:.3f}",
            ],
            decision=[
                f"- calibration: {metadata.calibration.method} (asked for: "
                f"{markdown_text(evidence.calibration)})",
                f"- least probability of a label: {least:g}"
                if least
                else "- every text gets its most probable label",
                f"- calibration error (ECE, mean of the labels) {before:.4f} before calibration, "
                f"{after:.4f} after it",
            ],
            table=_label_table(metadata, evidence),
            caption=reliability_caption(metadata.task),
        )

    def figure_path(self, folder: Path, task: str) -> Path:
        """Reliability diagram of a task."""
        from exporter.decision.reliability import diagram_path

        return diagram_path(folder, task)

    def figure(self, path: Path, task: str, fitted: Fitted, rows: LabelledOutputs) -> None:
        """Draw a reliability diagram before and after calibration."""
        from exporter.decision.classes import ClassFit
        from exporter.decision.reliability import before_and_after, draw_reliability

        chosen = fitted.figure_data
        assert isinstance(chosen, ClassFit)
        gold = one_hot(rows.targets, len(rows.labels))
        draw_reliability(path, task, before_and_after(chosen.before, chosen.after), gold)


def _label_table(metadata: ArtefactMetadata, evidence: ClassDecisionEvidence) -> list[str]:
    rows = [
        [label, str(trained), str(heldout), f"{before:.3f}", f"{after:.3f}", f"{brier:.4f}"]
        for label, trained, heldout, before, after, brier in zip(
            metadata.labels,
            metadata.training.positives,
            evidence.positives,
            evidence.before.ece,
            evidence.after.ece,
            evidence.after.brier,
            strict=True,
        )
    ]
    return [
        "ECE before is of the softmax of the logits; ECE after and Brier score are "
        "cross-validated.",
        "",
        markdown_table(LABEL_COLUMNS, rows),
    ]
