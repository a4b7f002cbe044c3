"""MODEL_CARD.md, written from the facts that the files carry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Literal
from urllib.parse import quote

from schemas.bundle.metadata import ArtefactMetadata, DecisionFacts
from schemas.decision.thresholds import ThresholdRule
from schemas.markdown import markdown_code, markdown_table, markdown_text

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
NO_DIAGRAMS: Mapping[str, str] = {}
NOT_SHARED: Mapping[str, Sequence[str]] = {}


def model_card(
    tasks: Mapping[str, ArtefactMetadata],
    diagrams: Mapping[str, str] = NO_DIAGRAMS,
    shared: Mapping[str, Sequence[str]] = NOT_SHARED,
) -> str:
    """A Markdown page about every task of a bundle.

    diagrams: file name of the reliability diagram by task, for those that have one.
    shared: tasks by the name of the file that they share.
    """
    encoder = next(iter(tasks.values())).encoder
    intro = [
        "# Model card",
        "",
        f"Encoder {markdown_code(encoder.source)} ({markdown_text(encoder.model_type)}, "
        f"{encoder.layers} layers, hidden "
        f"{encoder.hidden}, {encoder.parameters / 1e6:.1f} million parameters), fine-tuned and "
        "exported by narrascan. Each file below scores with `tokenizer.json` of this folder and "
        "carries its labels, thresholds and calibration inside "
        "(`export-classifier inspect FILE`).",
        "",
    ]
    for name, group in shared.items():
        intro += [
            f"{markdown_code(name)} runs the encoder once for tasks "
            f"{markdown_text(', '.join(group))}, which read the same text; their logits have the "
            "same bits as those of their own files.",
            "",
        ]
    sections = [
        line
        for name, about in tasks.items()
        for line in (*_facts(about), *_picture(name, diagrams), *_labels(about))
    ]
    return "\n".join(intro + sections)


def _facts(about: ArtefactMetadata) -> list[str]:
    check, training = about.metrics.verification, about.training
    seen, unseen = about.metrics.validation, about.metrics.cross_validated
    reads = ["title and body" if about.text.title else "body"]
    if about.text.entity_markers:
        reads.append("one entity marked in it")
    return [
        f"## {markdown_text(about.task)}",
        "",
        f"- kind: {markdown_text(about.kind)}, {len(about.labels)} labels",
        f"- reads: {', '.join(reads)}, up to {about.max_tokens} tokens",
        f"- trained on {training.train_rows} rows with loss {markdown_code(training.loss)} "
        f"(config {_short(training.config_sha256)}, data {_short(training.data_sha256)}, "
        f"commit {_short(training.git_commit or 'unknown')})",
        f"- on {unseen.rows} held-out texts, each decided with calibration and thresholds found "
        f"without it: micro-F1 {unseen.micro_f1:.3f}, macro-F1 {unseen.macro_f1:.3f}, exact match "
        f"{unseen.exact_match:.3f}",
        "- on the same texts with those found on all of them, mostly too high: micro-F1 "
        f"{seen.micro_f1:.3f}, macro-F1 {seen.macro_f1:.3f}, exact match {seen.exact_match:.3f}",
        f"- against torch on {check.texts} texts in {check.shapes} batch shapes: logits within "
        f"{check.max_logit_difference:.1e} (tolerance {check.logit_tolerance:.0e}), "
        f"{check.differing_decisions:.3%} of decisions differ",
        f"- on {markdown_text(about.metrics.portability.machine)}, logits of "
        f"{about.metrics.portability.texts} probe texts are within "
        f"{about.metrics.portability.max_logit_difference:.1e} however they are computed; on "
        f"another kind of machine {about.metrics.portability.bound:.1e} is allowed "
        "(`export-classifier verify`)",
        f"- precision: {about.precision}; calibration: {about.calibration.method} (asked for: "
        f"{markdown_text(about.decision.calibration)})",
        f"- thresholds: {_rule(about.decision.thresholds)}",
        *_cost(about),
        *_recalibrated(about),
        f"- calibration error (ECE, mean of the labels) {_mean_change(about.decision, 'ece')}, "
        f"Brier score {_mean_change(about.decision, 'brier')}",
        "",
    ]


def _cost(about: ArtefactMetadata) -> list[str]:
    cost = about.cost
    if cost is None:
        return []
    where = "CUDA" if cost.device == "cuda" else "a CPU"
    return [
        f"- against fp32 on {cost.texts} texts, measured on {where}: labels of "
        f"{cost.changed_articles:.2%} of the texts differ, probabilities by at most "
        f"{cost.drift_max:.4f}"
    ]


def _recalibrated(about: ArtefactMetadata) -> list[str]:
    again = about.recalibration
    if again is None:
        return []
    return [
        f"- calibration and thresholds were found again on {again.rows} labelled rows (data "
        f"{_short(again.data_sha256)}) with the bundle {_short(again.bundle_sha256)}; those are "
        "the held-out texts of this page"
    ]


def _picture(task: str, diagrams: Mapping[str, str]) -> list[str]:
    if task not in diagrams:
        return []
    words = f"Reliability of {markdown_text(task)} before and after calibration"
    return [f"![{words}]({quote(diagrams[task])})", ""]


def _labels(about: ArtefactMetadata) -> list[str]:
    decision = about.decision
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
            about.labels,
            about.training.positives,
            decision.positives,
            about.thresholds,
            decision.intervals,
            decision.before.ece,
            decision.after.ece,
            decision.after.brier,
            strict=True,
        )
    ]
    return [
        f"Intervals hold {decision.confidence:.0%} of the thresholds that resampled held-out texts "
        "give. ECE before is of the sigmoid of the logits; ECE after and Brier score are "
        "cross-validated.",
        "",
        markdown_table(LABEL_COLUMNS, rows),
    ]


def _rule(rule: ThresholdRule) -> str:
    """The rule in a few words, with the numbers that have an effect."""
    if rule.strategy == "fixed":
        return f"fixed at {rule.fixed:g}"
    objectives = {
        "f1": "highest F1",
        "macro_f1": "highest macro-F1",
        "precision_floor": f"highest recall with precision of at least {rule.floor:g}",
        "recall_floor": f"highest precision with recall of at least {rule.floor:g}",
        "cost": f"lowest cost, {rule.false_positive_cost:g} for a label too many and "
        f"{rule.false_negative_cost:g} for one missed",
    }
    strategies = {
        "global": "one for the task",
        "per_label": "one a label",
        "shrunk": "one a label, half way to the task's at "
        f"{rule.shrinkage_rows:g} positive held-out rows",
    }
    folds = f", median over {rule.folds} folds" if rule.folds else ""
    return f"{strategies[rule.strategy]}; {objectives[rule.objective]}{folds}"


def _mean_change(decision: DecisionFacts, name: Literal["ece", "brier"]) -> str:
    before, after = (fmean(getattr(quality, name)) for quality in (decision.before, decision.after))
    return f"{before:.4f} before calibration, {after:.4f} after it"


def _short(digest: str) -> str:
    """The beginning of a hash."""
    return markdown_text(digest[:12])
