"""MODEL_CARD.md, written from the facts that the files carry."""

from __future__ import annotations

from schemas.metadata import ArtefactMetadata


def model_card(tasks: dict[str, ArtefactMetadata]) -> str:
    """A Markdown page about every task of a bundle."""
    encoder = next(iter(tasks.values())).encoder
    intro = [
        "# Model card",
        "",
        f"Encoder `{encoder.source}` ({encoder.model_type}, {encoder.layers} layers, hidden "
        f"{encoder.hidden}, {encoder.parameters / 1e6:.1f} million parameters), fine-tuned and "
        "exported by narrascan. Each file below scores with `tokenizer.json` of this folder and "
        "carries its labels, thresholds and calibration inside "
        "(`export-classifier inspect FILE`).",
        "",
    ]
    return "\n".join(intro + [line for task in tasks.values() for line in _section(task)])


def _section(about: ArtefactMetadata) -> list[str]:
    scores, check, training = (
        about.metrics.validation,
        about.metrics.verification,
        about.training,
    )
    reads = ["title and body" if about.text.title else "body"]
    if about.text.entity_markers:
        reads.append("one entity marked in it")
    rows = [
        f"| {_cell(label)} | {count} | {threshold:.3f} |"
        for label, count, threshold in zip(
            about.labels, training.positives, about.thresholds, strict=True
        )
    ]
    return [
        f"## {about.task}",
        "",
        f"- kind: {about.kind}, {len(about.labels)} labels",
        f"- reads: {', '.join(reads)}, up to {about.max_tokens} tokens",
        f"- trained on {training.train_rows} rows with loss `{training.loss}` "
        f"(config {training.config_sha256[:12]}, data {training.data_sha256[:12]}, "
        f"commit {(training.git_commit or 'unknown')[:12]})",
        f"- on the {scores.rows} held-out texts that thresholds were found on, an upper estimate: "
        f"micro-F1 {scores.micro_f1:.3f}, macro-F1 {scores.macro_f1:.3f}, exact match "
        f"{scores.exact_match:.3f}",
        f"- against torch on {check.texts} texts in {check.shapes} batch shapes: logits within "
        f"{check.max_logit_difference:.1e} (tolerance {check.logit_tolerance:.0e}), "
        f"{check.differing_decisions:.3%} of decisions differ",
        f"- precision: {about.precision}; calibration: {about.calibration.method}",
        "",
        "| label | training rows | threshold |",
        "| --- | ---: | ---: |",
        *rows,
        "",
    ]


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
