"""Nearest: thresholds of the votes, chosen on held-out rows.

Drawing is imported late: `verify` and `inspect` work without the training stack.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel

from exporter.kinds.base import (
    LABEL_LOSSES,
    CardParts,
    Fitted,
    LabelledOutputs,
)
from exporter.kinds.multilabel import rule_text
from schemas.arrays import BoolArray, Float32Array
from schemas.bundle.metadata import ArtefactMetadata
from schemas.decision.decide import decide
from schemas.decision.metrics import Hits, LabelScores
from schemas.decision.thresholds import find_thresholds, held_out_decisions
from schemas.kinds.nearest import (
    NearestDecision,
    NearestDecisionConfig,
    NearestEvidence,
    most_votes,
)
from schemas.markdown import markdown_code, markdown_table

LABEL_COLUMNS = ("label", "reference texts", "held-out rows", "threshold")


class NearestExporterKind:
    """See `exporter.kinds.base.ExporterKind`."""

    MAX_LOSSES = LABEL_LOSSES

    def targets(self, gold: Any, outputs: Sequence[Float32Array]) -> Any:
        """Gold values."""
        return gold

    def fit(self, rows: LabelledOutputs, config: BaseModel) -> Fitted:
        """Choose thresholds, unless every text gets one label."""
        assert isinstance(config, NearestDecisionConfig)
        votes = _votes(rows.unseen)
        if config.one_label:
            thresholds: tuple[float, ...] = ()
            decided = cross_validated = most_votes(votes)
        else:
            found = find_thresholds(votes, rows.targets, config.thresholds)
            thresholds = tuple(found.tolist())
            decided = decide(votes, found)
            cross_validated = held_out_decisions(votes, rows.targets, config.thresholds)
        return Fitted(
            decision=NearestDecision(one_label=config.one_label, thresholds=thresholds),
            evidence=NearestEvidence(
                rule=config.thresholds, positives=tuple(rows.targets.sum(axis=0).tolist())
            ),
            validation=_scores(rows.targets, decided),
            cross_validated=_scores(rows.targets, cross_validated),
            figure_data=votes,
        )

    def config_of(self, decision: BaseModel, evidence: BaseModel) -> NearestDecisionConfig:
        """What gives a label, as it was asked for."""
        assert isinstance(decision, NearestDecision)
        assert isinstance(evidence, NearestEvidence)
        return NearestDecisionConfig(one_label=decision.one_label, thresholds=evidence.rule)

    def settle(
        self, variant: Fitted, rows: LabelledOutputs, before: Fitted, config: BaseModel
    ) -> NearestDecision:
        """Those of fp32: votes hardly move, and thresholds of the variant's own may jump."""
        assert isinstance(before.decision, NearestDecision)
        return before.decision

    def output_error(
        self, outputs: Sequence[Float32Array], expected: Sequence[Float32Array], decision: BaseModel
    ) -> Float32Array:
        """Distance of votes."""
        return np.asarray(np.abs(_votes(outputs) - _votes(expected)), dtype=np.float32)

    def card(self, metadata: ArtefactMetadata) -> CardParts:
        """Scores, how votes are counted, and a table of the labels."""
        fitted_on, unseen = metadata.metrics.validation, metadata.metrics.cross_validated
        evidence, options = metadata.evidence, metadata.training.options
        assert isinstance(metadata, NearestDecision)
        assert isinstance(evidence, NearestEvidence)
        assert isinstance(fitted_on, LabelScores)
        assert isinstance(unseen, LabelScores)
        assert metadata.references is not None
        ids = metadata.references.ids
        answer = "the label with the most votes"
        if not metadata.one_label:
            rule = rule_text(evidence.rule)
            answer = f"labels whose share of the votes reaches their threshold; thresholds: {rule}"
        return CardParts(
            scores=[
                f"- on {unseen.rows} held-out texts, each decided without it: micro-F1 "
                f"{unseen.micro_f1:.3f}, macro-F1 {unseen.macro_f1:.3f}, exact match "
                f"{unseen.exact_match:.3f}",
                f"- on the same texts with what was chosen on all of them: micro-F1 "
                f"{fitted_on.micro_f1:.3f}, macro-F1 {fitted_on.macro_f1:.3f}, exact match "
                f"{fitted_on.exact_match:.3f}",
            ],
            decision=[
                f"- {options['neighbours']} nearest of the training texts vote, by "
                f"{options['pooling']} pooling and cosine, the nearer the more; the answer is "
                + answer,
                f"- `batch-classify --neighbours` names them: {len(ids):,} texts, with ids such as "
                f"{markdown_code(ids[0])}",
            ],
            table=_label_table(metadata, evidence),
            caption=f"How often labels of {metadata.task} are right, by their share of the votes",
        )

    def figure_path(self, folder: Path, task: str) -> Path:
        """Reliability diagram of a task."""
        from exporter.decision.reliability import diagram_path

        return diagram_path(folder, task)

    def figure(self, path: Path, task: str, fitted: Fitted, rows: LabelledOutputs) -> None:
        """Draw how often a label is right by its share of the votes."""
        from exporter.decision.reliability import draw_reliability

        draw_reliability(path, task, {"Share of the votes": fitted.figure_data}, rows.targets)


def _votes(outputs: Sequence[Float32Array]) -> Float32Array:
    return np.asarray(np.clip(np.stack(outputs), 0.0, 1.0), dtype=np.float32)


def _scores(gold: BoolArray, decided: BoolArray) -> LabelScores:
    return Hits.count(gold, decided).scores()


def _label_table(metadata: ArtefactMetadata, evidence: NearestEvidence) -> list[str]:
    assert isinstance(metadata, NearestDecision)
    thresholds = [f"{one:.3f}" for one in metadata.thresholds] or [""] * len(metadata.labels)
    rows = [
        [label, str(references), str(held_out), threshold]
        for label, references, held_out, threshold in zip(
            metadata.labels,
            metadata.training.positives,
            evidence.positives,
            thresholds,
            strict=True,
        )
    ]
    return [markdown_table(LABEL_COLUMNS, rows)]
