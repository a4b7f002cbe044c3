"""The gate of reduced precision: what a variant costs on held-out texts, and if it may pass."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from batch.scoring.runner import GraphRunner, load_tokenizer
from batch.scoring.session import TaskSession
from exporter.kinds import EXPORTER_KINDS
from exporter.kinds.base import Fitted, LabelledOutputs
from schemas.arrays import Float32Array
from schemas.bundle.facts import VariantCost
from schemas.bundle.metadata import VariantFacts, variant_model
from schemas.bundle.variants import DeviceKind
from schemas.decision.metrics import score_name
from schemas.kinds import KINDS
from schemas.kinds.base import OutputSpec
from schemas.text.tokens import TokenizedText

MAX_CHANGED_ARTICLES = 0.015
"""Largest share of the texts whose answer may differ from that of fp32."""
WANTED_CHANGED_ARTICLES = 0.005
"""Share that nodes are left in bf16 for."""
TIMED_TEXTS = 256


@dataclass(frozen=True)
class Reference:
    """Outputs of fp32 for a task's held-out texts, and the decision fitted to them.

    config: section `decision` of the task. output: of the file of this task alone.
    neighbours: nearest reference texts that the file names for each text.
    tokenizer_json: content of that file.
    """

    task: str
    kind: str
    rows: LabelledOutputs
    config: BaseModel
    fitted: Fitted
    output: OutputSpec
    tokenizer_json: bytes
    max_tokens: int
    pad_id: int
    neighbours: int = 0

    @property
    def texts(self) -> Sequence[TokenizedText]:
        """The held-out texts."""
        return self.rows.texts

    def runner(self, session: TaskSession) -> GraphRunner:
        """Run the same texts by another session."""
        tokenizer = load_tokenizer(self.tokenizer_json, "tokenizer.json")
        return GraphRunner(session, tokenizer, max_tokens=self.max_tokens, pad_id=self.pad_id)

    def problem(self, cost: VariantCost) -> str | None:
        """Why a variant of this task may not be published, or None if it may."""
        return gate(cost, EXPORTER_KINDS[self.kind].MAX_LOSSES)

    def decide(
        self, outputs: Sequence[Float32Array], decision: BaseModel, texts: Sequence[TokenizedText]
    ) -> Any:
        """Answers by a decision of this task (`schemas.kinds.base.Decided`)."""
        return KINDS[self.kind].decide(outputs, self.rows.labels, decision, texts)


def fit_variant(
    reference: Reference,
    outputs: Sequence[Float32Array],
    *,
    kept_nodes: tuple[str, ...] = (),
    device: DeviceKind = "cpu",
) -> VariantFacts:
    """Fit the decision of a variant to its own outputs, and measure its cost.

    The decision of fp32 is kept unless the variant's own scores better. Cross-validated scores
    are of decisions fitted within each fold.
    outputs: of the reference's texts. kept_nodes: left in a higher precision. device: that ran it.
    """
    exporter, kind, before = EXPORTER_KINDS[reference.kind], KINDS[reference.kind], reference.fitted
    rows = reference.rows.rerun(outputs)
    own = exporter.fit(rows, reference.config)
    decision = exporter.settle(own, rows, before, reference.config)
    decided = reference.decide(rows.unseen, decision, reference.texts)
    expected = reference.decide(reference.rows.unseen, before.decision, reference.texts)
    changed = decided.changed(expected)
    error = exporter.output_error(outputs, reference.rows.outputs, before.decision)
    after = kind.compare(rows.targets, decided).scores()
    cost = VariantCost(
        texts=len(outputs),
        output_error_max=float(error.max()),
        output_error_mean=float(error.mean()),
        changed_decisions=float(changed.mean()),
        changed_articles=float(changed.any(axis=1).mean()),
        before=before.validation.headline(),
        after=after.headline(),
        kept_nodes=kept_nodes,
        device=device,
    )
    facts = {
        "decision": decision,
        "evidence": own.evidence,
        "validation": after,
        "cross_validated": own.cross_validated,
        "cost": cost,
    }
    return variant_model(reference.kind).model_validate(facts)


def gate(cost: VariantCost, max_losses: Mapping[str, float]) -> str | None:
    """Why a variant may not be published, or None if it passes.

    max_losses: of headline scores, by name.
    """
    if cost.changed_articles > MAX_CHANGED_ARTICLES:
        return (
            f"it changes the answers to {cost.changed_articles:.2%} of the texts, "
            f"{MAX_CHANGED_ARTICLES:.1%} are allowed"
        )
    for name, before in cost.before.items():
        after = cost.after[name]
        if before - after > max_losses[name]:
            return (
                f"{score_name(name)} drops from {before:.4f} to {after:.4f}; the allowed drop is "
                f"{max_losses[name]:.3f}"
            )
    return None


def tokens_per_s(runner: GraphRunner, texts: Sequence[TokenizedText]) -> float:
    """Speed of a runner on some of the texts, the second time it sees their shapes."""
    some = texts[:TIMED_TEXTS]
    runner.outputs(some)
    started = time.perf_counter()
    runner.outputs(some)
    return sum(len(text.ids) for text in some) / (time.perf_counter() - started)
