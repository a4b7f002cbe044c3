"""MODEL_CARD.md, written from the facts that the files carry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from urllib.parse import quote

from exporter.kinds import EXPORTER_KINDS
from exporter.kinds.base import CardParts
from schemas.bundle.facts import TrainingFacts
from schemas.bundle.metadata import ArtefactMetadata
from schemas.markdown import markdown_code, markdown_text

NO_DIAGRAMS: Mapping[str, str] = {}
NOT_SHARED: Mapping[str, Sequence[str]] = {}


def model_card(
    tasks: Mapping[str, ArtefactMetadata],
    diagrams: Mapping[str, str] = NO_DIAGRAMS,
    shared: Mapping[str, Sequence[str]] = NOT_SHARED,
) -> str:
    """A Markdown page about every task of a bundle.

    diagrams: file name of the figure by task, for those that have one.
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
        "carries inside what its answers need, such as labels and thresholds "
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
        for name, metadata in tasks.items()
        for line in (
            *_facts(metadata),
            *_picture(name, _parts(metadata).caption, diagrams),
            *_parts(metadata).table,
        )
    ]
    return "\n".join(intro + sections)


def _facts(metadata: ArtefactMetadata) -> list[str]:
    check, training, parts = metadata.metrics.verification, metadata.training, _parts(metadata)
    reads = ["title and body" if metadata.text.title else "body"]
    if metadata.text.entity_markers:
        reads.append("one entity marked in it")
    if metadata.text.truncation == "head_tail":
        reads.append("of long texts the beginning and the end")
    return [
        f"## {markdown_text(metadata.task)}",
        "",
        f"- kind: {markdown_text(metadata.kind)}, {metadata.answer}",
        f"- reads: {', '.join(reads)}, up to {metadata.most_tokens} tokens{_windows(metadata)}",
        f"- {_training(training)} (config {_short(training.config_sha256)}, "
        f"data {_short(training.data_sha256)}, commit {_short(training.git_commit or 'unknown')})",
        *parts.scores,
        f"- against torch on {check.texts} texts in {check.shapes} batch shapes: logits within "
        f"{check.max_logit_difference:.1e} (tolerance {check.logit_tolerance:.0e}), "
        f"{check.differing_decisions:.3%} of decisions differ",
        f"- on {markdown_text(metadata.metrics.portability.machine)}, logits of "
        f"{metadata.metrics.portability.texts} probe texts are within "
        f"{metadata.metrics.portability.max_logit_difference:.1e} however they are computed; on "
        f"another kind of machine {metadata.metrics.portability.bound:.1e} is allowed "
        "(`export-classifier verify`)",
        f"- precision: {metadata.precision}",
        *parts.decision,
        *_cost(metadata),
        *_recalibrated(metadata),
        "",
    ]


def _windows(metadata: ArtefactMetadata) -> str:
    """How long texts are read, after the number of tokens."""
    windows = metadata.windows
    if windows is None:
        return ""
    pooling = "" if windows.pooling is None else f", whose outputs are pooled ({windows.pooling})"
    return (
        f", long texts in windows of {windows.tokens} tokens, each {windows.stride} after the one "
        f"before{pooling}"
    )


def _cost(metadata: ArtefactMetadata) -> list[str]:
    cost = metadata.cost
    if cost is None:
        return []
    where = "CUDA" if cost.device == "cuda" else "a CPU"
    return [
        f"- against fp32 on {cost.texts} texts, measured on {where}: answers to "
        f"{cost.changed_articles:.2%} of the texts differ, outputs by at most "
        f"{cost.output_error_max:.4f}"
    ]


def _recalibrated(metadata: ArtefactMetadata) -> list[str]:
    again = metadata.recalibration
    if again is None:
        return []
    return [
        f"- calibration and thresholds were found again on {again.rows} labelled rows (data "
        f"{_short(again.data_sha256)}) with the bundle {_short(again.bundle_sha256)}; those are "
        "the held-out texts of this page"
    ]


def _training(training: TrainingFacts) -> str:
    if training.loss is None:
        return f"not trained for this task, which has {training.train_rows} training texts"
    return f"trained on {training.train_rows} rows with loss {markdown_code(training.loss)}"


def _picture(task: str, caption: str, diagrams: Mapping[str, str]) -> list[str]:
    if task not in diagrams:
        return []
    return [f"![{markdown_text(caption)}]({quote(diagrams[task])})", ""]


def _parts(metadata: ArtefactMetadata) -> CardParts:
    return EXPORTER_KINDS[metadata.kind].card(metadata)


def _short(digest: str) -> str:
    """The beginning of a hash."""
    return markdown_text(digest[:12])
