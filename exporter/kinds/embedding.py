"""Embedding: nothing is fitted; reduced precisions are compared with the vectors of fp32.

Drawing is imported late: `verify` and `inspect` work without the training stack.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from pydantic import BaseModel

from exporter.kinds.base import CardParts, Fitted, LabelledOutputs
from schemas.arrays import Float32Array
from schemas.bundle.metadata import ArtefactMetadata
from schemas.decision.vectors import Agreement
from schemas.kinds.embedding import (
    EMBEDDING,
    EmbeddingDecision,
    EmbeddingDecisionConfig,
    EmbeddingEvidence,
)

MEDIAN = 2
"""Place of the median among the quantiles of the evidence."""


class EmbeddingExporterKind:
    """See `exporter.kinds.base.ExporterKind`."""

    MAX_LOSSES: Mapping[str, float] = MappingProxyType({"cosine": 0.01, "neighbours_kept": 0.05})

    def targets(self, gold: Any, outputs: Sequence[Float32Array]) -> Float32Array:
        """Vectors of fp32, (rows, dimension)."""
        return np.stack(outputs)

    def fit(self, rows: LabelledOutputs, config: BaseModel) -> Fitted:
        """Nothing to fit; the evidence is how similar texts are."""
        from exporter.decision.vectors import similarity_evidence

        vectors = np.stack(rows.unseen)
        scores = Agreement.count(rows.targets, vectors).scores()
        return Fitted(
            decision=EmbeddingDecision(dimension=vectors.shape[1]),
            evidence=similarity_evidence(vectors),
            validation=scores,
            cross_validated=scores,
            figure_data=vectors,
        )

    def config_of(self, decision: BaseModel, evidence: BaseModel) -> EmbeddingDecisionConfig:
        """Nothing to set."""
        return EmbeddingDecisionConfig()

    def settle(
        self, variant: Fitted, rows: LabelledOutputs, before: Fitted, config: BaseModel
    ) -> EmbeddingDecision:
        """The same for every precision."""
        assert isinstance(variant.decision, EmbeddingDecision)
        return variant.decision

    def output_error(
        self, outputs: Sequence[Float32Array], expected: Sequence[Float32Array], decision: BaseModel
    ) -> Float32Array:
        """Distance of every number."""
        return np.asarray(np.abs(np.stack(outputs) - np.stack(expected)), dtype=np.float32)

    def card(self, metadata: ArtefactMetadata) -> CardParts:
        """What the vectors are, and how similar those of two texts are."""
        evidence, options = metadata.evidence, metadata.training.options
        assert isinstance(evidence, EmbeddingEvidence)
        length = "length 1" if options["normalize"] else "any length"
        layers = options["layers"]
        taken = "the last layer" if layers == 1 else f"the last {layers} layers"
        scores = []
        if metadata.cost is not None:
            after = metadata.metrics.validation.headline()
            scores.append(
                f"- cosine to the vectors of fp32 {after['cosine']:.4f}; "
                f"{after['neighbours_kept']:.1%} of the nearest texts are the same"
            )
        if evidence.any_two:
            scores.append(
                f"- cosine of two held-out texts: {_range(evidence.any_two)}; of a text and the "
                f"one nearest to it: {_range(evidence.nearest)} (median, and where 90 % lie)"
            )
        return CardParts(
            scores=scores,
            decision=[
                f"- `{EMBEDDING}`: {options['pooling']} pooling over {taken}, vectors of {length}"
            ],
            table=[],
            caption=f"Map of the held-out texts of {metadata.task}, and their cosines",
        )

    def figure_path(self, folder: Path, task: str) -> Path:
        """Map of a task's held-out texts."""
        from exporter.decision.vectors import map_path

        return map_path(folder, task)

    def figure(self, path: Path, task: str, fitted: Fitted, rows: LabelledOutputs) -> None:
        """Draw the held-out texts on a map."""
        from exporter.decision.vectors import draw_map

        draw_map(path, task, fitted.figure_data)


def _range(cosines: Sequence[float]) -> str:
    return f"{cosines[MEDIAN]:.2f} ({cosines[0]:.2f} to {cosines[-1]:.2f})"
