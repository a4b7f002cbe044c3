"""Multilabel: calibration and thresholds, fitted to held-out rows, and limits on label sets.

Fitting and drawing are imported late: `verify` and `inspect` work without the training stack.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

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
from schemas.decision.decide import calibrate
from schemas.decision.metrics import Hits, LabelScores
from schemas.decision.set_rule import SetRule, check_enough_labels, set_size_text
from schemas.decision.settings import DecisionConfig, DecisionEvidence
from schemas.decision.thresholds import ThresholdRule
from schemas.errors import ExportError
from schemas.kinds.multilabel import MultilabelDecision
from schemas.markdown import markdown_table, markdown_text

LABEL_COLUMNS = (
    "label",
    "training rows",
    "held-out rows",
    "threshold",
    "interval",
    "ECE before",
    "ECE after",
    "Brier",
)


class MultilabelExporterKind:
    """See `exporter.kinds.base.ExporterKind`."""

    MAX_LOSSES = LABEL_LOSSES

    def targets(self, gold: Any, outputs: Sequence[Float32Array]) -> Any:
        """Gold values."""
        return gold

    def fit(self, rows: LabelledOutputs, config: BaseModel) -> Fitted:
        """Choose calibration and thresholds."""
        from exporter.decision.fit import choose_decision

        assert isinstance(config, DecisionConfig)
        try:
            check_enough_labels(config, rows.labels, rows.parents)
        except ValueError as error:
            raise ExportError(str(error), hint="set fewest_labels to a smaller number") from error
        rule = SetRule.of(rows.labels, config, rows.parents)
        chosen = choose_decision(np.stack(rows.unseen), rows.targets, config, rule)
        return Fitted(
            decision=MultilabelDecision(
                thresholds=tuple(chosen.thresholds.tolist()),
                calibration=chosen.calibration,
                parents=dict(rows.parents),
                fewest_labels=config.fewest_labels,
                most_labels=config.most_labels,
            ),
            evidence=chosen.evidence,
            validation=chosen.validation,
            cross_validated=chosen.cross_validated,
            figure_data=chosen,
        )

    def config_of(self, decision: BaseModel, evidence: BaseModel) -> DecisionConfig:
        """Calibration, rule of the thresholds and number of labels, as they were asked for."""
        assert isinstance(evidence, DecisionEvidence)
        assert isinstance(decision, MultilabelDecision)
        return DecisionConfig(
            calibration=evidence.calibration,
            thresholds=evidence.thresholds,
            fewest_labels=decision.fewest_labels,
            most_labels=decision.most_labels,
        )

    def settle(
        self, variant: Fitted, rows: LabelledOutputs, before: Fitted, config: BaseModel
    ) -> MultilabelDecision:
        """Thresholds of fp32 instead of the variant's, where they decide its texts as well.

        A threshold moves only where that gains F1: the best place of a step function jumps when a
        logit moves a little, and would give articles other labels for nothing. A rule that asks
        for something other than F1 has the last word.
        """
        own, fp32, rule = _decision(variant), _decision(before), _rule(config)
        if rule.objective not in ("f1", "macro_f1"):
            return own
        sets = SetRule.of(rows.labels, own, rows.parents)
        probabilities = sets.tree.probabilities(calibrate(np.stack(rows.unseen), own.calibration))
        new, old = own.threshold_array, fp32.threshold_array
        of_new, of_old = (
            Hits.count(rows.targets, sets.decide(probabilities, thresholds))
            for thresholds in (new, old)
        )
        if rule.strategy != "global" and not sets.has_limits:
            chosen = np.where(of_old.label_f1() >= of_new.label_f1(), old, new)
        else:
            # One threshold for all, or labels that depend on each other.
            measure = "micro_f1" if rule.objective == "f1" else "macro_f1"
            is_as_good = getattr(of_old.scores(), measure) >= getattr(of_new.scores(), measure)
            chosen = old if is_as_good else new
        return own.model_copy(update={"thresholds": tuple(chosen.tolist())})

    def output_error(
        self, outputs: Sequence[Float32Array], expected: Sequence[Float32Array], decision: BaseModel
    ) -> Float32Array:
        """Distance of the labels' own probabilities, both by the calibration of fp32."""
        assert isinstance(decision, MultilabelDecision)
        ours, theirs = (
            calibrate(np.stack(each), decision.calibration) for each in (outputs, expected)
        )
        return np.asarray(np.abs(ours - theirs), dtype=np.float32)

    def card(self, metadata: ArtefactMetadata) -> CardParts:
        """Scores, calibration, thresholds, and a table of the labels."""
        seen, unseen = metadata.metrics.validation, metadata.metrics.cross_validated
        evidence = _of(metadata)
        assert isinstance(seen, LabelScores)
        assert isinstance(unseen, LabelScores)
        assert isinstance(metadata, MultilabelDecision)
        return CardParts(
            scores=[
                f"- on {unseen.rows} held-out texts, each decided with calibration and thresholds "
                f"found without it: micro-F1 {unseen.micro_f1:.3f}, macro-F1 "
                f"{unseen.macro_f1:.3f}, exact match {unseen.exact_match:.3f}",
                "- on the same texts with those found on all of them, mostly too high: micro-F1 "
                f"{seen.micro_f1:.3f}, macro-F1 {seen.macro_f1:.3f}, exact match "
                f"{seen.exact_match:.3f}",
                *_level_lines(unseen),
            ],
            decision=[
                f"- calibration: {metadata.calibration.method} (asked for: "
                f"{markdown_text(evidence.calibration)})",
                f"- thresholds: {rule_text(evidence.thresholds)}",
                f"- calibration error (ECE, mean of the labels) {_mean_change(evidence, 'ece')}, "
                f"Brier score {_mean_change(evidence, 'brier')}",
                *_size_lines(metadata),
                *_parent_lines(metadata),
            ],
            table=_label_table(metadata, metadata, evidence),
            caption=reliability_caption(metadata.task),
        )

    def figure_path(self, folder: Path, task: str) -> Path:
        """Reliability diagram of a task."""
        from exporter.decision.reliability import diagram_path

        return diagram_path(folder, task)

    def figure(self, path: Path, task: str, fitted: Fitted, rows: LabelledOutputs) -> None:
        """Draw a reliability diagram before and after calibration."""
        from exporter.decision.fit import LabelDecision
        from exporter.decision.reliability import before_and_after, draw_reliability

        chosen = fitted.figure_data
        assert isinstance(chosen, LabelDecision)
        draw_reliability(path, task, before_and_after(chosen.before, chosen.after), rows.targets)


def _decision(fitted: Fitted) -> MultilabelDecision:
    assert isinstance(fitted.decision, MultilabelDecision)
    return fitted.decision


def _of(metadata: ArtefactMetadata) -> DecisionEvidence:
    assert isinstance(metadata.evidence, DecisionEvidence)
    return metadata.evidence


def _rule(config: BaseModel) -> ThresholdRule:
    assert isinstance(config, DecisionConfig)
    return config.thresholds


def _level_lines(scores: LabelScores) -> list[str]:
    """Scores by level; nothing for labels of one level."""
    if scores.levels is None:
        return []
    return [
        f"- on the same texts, each decided without it, {level} labels alone: micro-F1 "
        f"{of_level.micro_f1:.3f}, macro-F1 {of_level.macro_f1:.3f}, samples F1 "
        f"{of_level.samples_f1:.3f}, exact match {of_level.exact_match:.3f}"
        for level, of_level in (("coarse", scores.levels.coarse), ("fine", scores.levels.fine))
    ]


def _size_lines(decision: MultilabelDecision) -> list[str]:
    """Limits on the number of labels per text; nothing if there are none."""
    limits = set_size_text(decision)
    if not limits:
        return []
    counted = ", not counting coarse labels that have fine ones" if decision.parents else ""
    if decision.fewest_labels == decision.most_labels:
        return [f"- each text has {limits}{counted}, whatever the thresholds: the most probable"]
    added = "; if fewer, the most probable others are added" if decision.fewest_labels else ""
    return [
        f"- each text has {limits}{counted}: if more reach their threshold, the most probable of "
        f"them{added}"
    ]


def _parent_lines(decision: MultilabelDecision) -> list[str]:
    """How the levels of labels agree; nothing for labels of one level."""
    if not decision.parents:
        return []
    return [
        f"- {len(decision.parents)} fine labels have one of {len({*decision.parents.values()})} "
        "coarse labels: a coarse label is as probable as the most probable of its fine labels, or "
        "more, and is given with any of them"
    ]


def _label_table(
    metadata: ArtefactMetadata, decision: MultilabelDecision, evidence: DecisionEvidence
) -> list[str]:
    rows = [
        [
            label,
            str(trained),
            str(held),
            f"{threshold:.3f}",
            f"{low:.3f} to {high:.3f}",
            f"{ece_before:.3f}",
            f"{ece_after:.3f}",
            f"{brier:.4f}",
        ]
        for label, trained, held, threshold, (low, high), ece_before, ece_after, brier in zip(
            metadata.labels,
            metadata.training.positives,
            evidence.positives,
            decision.thresholds,
            evidence.intervals,
            evidence.before.ece,
            evidence.after.ece,
            evidence.after.brier,
            strict=True,
        )
    ]
    columns = list(LABEL_COLUMNS)
    if decision.parents:
        columns.insert(1, "coarse label")
        for row in rows:
            row.insert(1, decision.parents.get(row[0], ""))
    return [
        f"Intervals hold {evidence.confidence:.0%} of the thresholds that resampled held-out texts "
        "give. ECE before is of the sigmoid of the logits; ECE after and Brier score are "
        "cross-validated.",
        "",
        markdown_table(columns, rows),
    ]


def rule_text(rule: ThresholdRule) -> str:
    """The rule in a few words, with the numbers that have an effect."""
    if rule.strategy == "fixed":
        return f"fixed at {rule.fixed:g}"
    objectives = {
        "f1": "highest F1",
        "macro_f1": "highest macro-F1",
        "precision_floor": f"highest recall with precision of at least {rule.floor:g}",
        "recall_floor": f"highest precision with recall of at least {rule.floor:g}",
        "cost": f"lowest cost, {rule.false_positive_cost:g} for a false positive and "
        f"{rule.false_negative_cost:g} for a false negative",
    }
    strategies = {
        "global": "one for the task",
        "per_label": "one a label",
        "shrunk": "one a label, shrunk halfway to the task's at "
        f"{rule.shrinkage_rows:g} positive held-out rows",
    }
    folds = f", median over {rule.folds} folds" if rule.folds else ""
    return f"{strategies[rule.strategy]}; {objectives[rule.objective]}{folds}"


def _mean_change(evidence: DecisionEvidence, name: Literal["ece", "brier"]) -> str:
    before, after = (fmean(getattr(quality, name)) for quality in (evidence.before, evidence.after))
    return f"{before:.4f} before calibration, {after:.4f} after it"
