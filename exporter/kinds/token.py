"""Token: scores of spans, calibrated on those found in held-out texts.

Fitting and drawing are imported late: `verify` and `inspect` work without the training stack.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel

from exporter.kinds.base import LABEL_LOSSES, CardParts, Fitted, LabelledOutputs
from schemas.arrays import Float32Array
from schemas.bundle.metadata import ArtefactMetadata
from schemas.decision.spans import (
    SpanDecision,
    SpanDecisionConfig,
    SpanEvidence,
    SpanScores,
    tag_probabilities,
)
from schemas.markdown import markdown_table

LABEL_COLUMNS = ("label", "training texts", "held-out spans")


class TokenExporterKind:
    """See `exporter.kinds.base.ExporterKind`."""

    MAX_LOSSES = LABEL_LOSSES

    def targets(self, gold: Any, outputs: Sequence[Float32Array]) -> Any:
        """Gold values."""
        return gold

    def fit(self, rows: LabelledOutputs, config: BaseModel) -> Fitted:
        """Choose a calibration."""
        from exporter.decision.spans import choose_span_decision

        assert isinstance(config, SpanDecisionConfig)
        chosen = choose_span_decision(rows.texts, rows.unseen, rows.targets, config)
        return Fitted(
            decision=chosen.decision,
            evidence=chosen.evidence,
            validation=chosen.validation,
            cross_validated=chosen.cross_validated,
            figure_data=chosen,
        )

    def config_of(self, decision: BaseModel, evidence: BaseModel) -> SpanDecisionConfig:
        """Decoding, calibration and least score, as they were asked for."""
        assert isinstance(decision, SpanDecision)
        assert isinstance(evidence, SpanEvidence)
        return SpanDecisionConfig(
            decoding=decision.decoding,
            calibration=evidence.calibration,
            least_score=decision.least_score,
        )

    def settle(
        self, variant: Fitted, rows: LabelledOutputs, before: Fitted, config: BaseModel
    ) -> SpanDecision:
        """The variant's own calibration: nothing in it jumps when a logit moves a little."""
        assert isinstance(variant.decision, SpanDecision)
        return variant.decision

    def output_error(
        self, outputs: Sequence[Float32Array], expected: Sequence[Float32Array], decision: BaseModel
    ) -> Float32Array:
        """Distance of the tags' probabilities."""
        ours, theirs = (tag_probabilities(np.concatenate(logits)) for logits in (outputs, expected))
        return np.asarray(np.abs(ours - theirs), dtype=np.float32)

    def card(self, metadata: ArtefactMetadata) -> CardParts:
        """Scores, decoding, calibration, and a table of the labels."""
        fitted_on, unseen = metadata.metrics.validation, metadata.metrics.cross_validated
        evidence = metadata.evidence
        assert isinstance(fitted_on, SpanScores)
        assert isinstance(unseen, SpanScores)
        assert isinstance(metadata, SpanDecision)
        assert isinstance(evidence, SpanEvidence)
        decoding = {
            "viterbi": "the most probable legal sequence of tags (Viterbi)",
            "repair": "the most probable tag of each word, illegal sequences repaired",
        }[metadata.decoding]
        return CardParts(
            scores=[
                f"- on {unseen.rows} held-out texts with {unseen.spans} spans: micro-F1 "
                f"{unseen.micro_f1:.3f} (precision {unseen.precision:.3f}, recall "
                f"{unseen.recall:.3f}), macro-F1 {unseen.macro_f1:.3f}; a span is right if start, "
                "end and label are",
            ],
            decision=[
                f"- decoding: {decoding}",
                f"- calibration of the scores of spans: {metadata.calibration.method} (asked for: "
                f"{evidence.calibration}), on {evidence.spans} spans that were found",
                f"- spans with a score below {metadata.least_score:g} are left out"
                if metadata.least_score
                else "- every span that is found is given",
                f"- calibration error (ECE) {evidence.ece_before:.4f} before calibration, "
                f"{evidence.ece_after:.4f} after it; Brier score {evidence.brier_after:.4f}",
            ],
            table=[_label_table(metadata, evidence)],
            caption=f"Reliability of the scores of {metadata.task} before and after calibration",
        )

    def figure_path(self, folder: Path, task: str) -> Path:
        """Reliability diagram of a task."""
        from exporter.decision.reliability import diagram_path

        return diagram_path(folder, task)

    def figure(self, path: Path, task: str, fitted: Fitted, rows: LabelledOutputs) -> None:
        """Draw a reliability diagram of the scores before and after calibration."""
        from exporter.decision.reliability import before_and_after, draw_reliability
        from exporter.decision.spans import SpanFit

        chosen = fitted.figure_data
        assert isinstance(chosen, SpanFit)
        draw_reliability(
            path, task, before_and_after(chosen.before, chosen.after), chosen.correct, of="spans"
        )


def _label_table(metadata: ArtefactMetadata, evidence: SpanEvidence) -> str:
    rows = [
        [label, str(trained), str(heldout)]
        for label, trained, heldout in zip(
            metadata.labels, metadata.training.positives, evidence.positives, strict=True
        )
    ]
    return markdown_table(LABEL_COLUMNS, rows)
