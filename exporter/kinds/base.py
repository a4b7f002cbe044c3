"""What `exporter` adds to a task kind: fitting its decision, and its part of the model card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

from pydantic import BaseModel

from schemas.arrays import Float32Array
from schemas.bundle.metadata import ArtefactMetadata
from schemas.decision.metrics import Scores
from schemas.kinds.base import corrected
from schemas.tasks.parents import Parents
from schemas.text.tokens import TokenizedText

LABEL_LOSSES: Mapping[str, float] = MappingProxyType(
    dict.fromkeys(("accuracy", "micro_f1", "macro_f1"), 0.003)
)
"""Largest losses of the headline scores of kinds with labels."""


@dataclass(frozen=True)
class LabelledOutputs:
    """Outputs of one task for labelled texts.

    outputs: of each text, float32. targets: gold values as numbers, one array a row.
    parents: coarse label by fine label, empty for labels of one level.
    corrections: of outputs for texts that the model has learned from, as a checkpoint has them.
    """

    labels: tuple[str, ...]
    texts: Sequence[TokenizedText]
    outputs: Sequence[Float32Array]
    targets: Any
    parents: Parents = field(default_factory=dict)
    corrections: Sequence[Float32Array] | None = None

    def rerun(self, outputs: Sequence[Float32Array]) -> LabelledOutputs:
        """The same texts with the outputs of another graph."""
        return replace(self, outputs=outputs)

    @property
    def unseen(self) -> Sequence[Float32Array]:
        """Outputs as of a model that has not learned from the texts, to fit decisions to."""
        return corrected(self.outputs, self.corrections)


@dataclass(frozen=True)
class Fitted:
    """How a task decides, and the evidence for it.

    decision: what the ONNX file carries. evidence: how it was chosen.
    validation: scores on the rows that everything was chosen on.
    cross_validated: scores where each row was decided by a fit without it.
    figure_data: what `ExporterKind.figure` draws.
    """

    decision: BaseModel
    evidence: BaseModel
    validation: Scores
    cross_validated: Scores
    figure_data: Any


@dataclass(frozen=True)
class CardParts:
    """Lines of a model card that depend on the kind.

    scores: what the answers are worth. decision: how outputs become answers. table: of labels.
    caption: of the figure.
    """

    scores: Sequence[str]
    decision: Sequence[str]
    table: Sequence[str]
    caption: str


class ExporterKind(Protocol):
    """What `exporter` adds to a kind.

    MAX_LOSSES: by how much a reduced precision may lower each headline score.
    """

    MAX_LOSSES: Mapping[str, float]

    def targets(self, gold: Any, outputs: Sequence[Float32Array]) -> Any:
        """What answers in any precision are compared with.

        gold: gold values as numbers. outputs: of fp32.
        """
        ...

    def fit(self, rows: LabelledOutputs, config: BaseModel) -> Fitted:
        """Fit a decision to held-out rows; deterministic.

        config: section `decision` of the task's config.
        """
        ...

    def config_of(self, decision: BaseModel, evidence: BaseModel) -> BaseModel:
        """The config that a decision was fitted by."""
        ...

    def settle(
        self, variant: Fitted, rows: LabelledOutputs, before: Fitted, config: BaseModel
    ) -> BaseModel:
        """Decision of a variant: its own fit, or that of fp32 where it decides as well.

        rows: outputs of the variant. before: what fp32 was fitted to.
        """
        ...

    def output_error(
        self, outputs: Sequence[Float32Array], expected: Sequence[Float32Array], decision: BaseModel
    ) -> Float32Array:
        """Distance of every output from that of fp32, on the scale that the kind decides by."""
        ...

    def card(self, metadata: ArtefactMetadata) -> CardParts:
        """Lines of the model card."""
        ...

    def figure_path(self, folder: Path, task: str) -> Path:
        """The figure of a task inside a bundle folder."""
        ...

    def figure(self, path: Path, task: str, fitted: Fitted, rows: LabelledOutputs) -> None:
        """Draw how far the answers can be trusted."""
        ...


def reliability_caption(task: str) -> str:
    """Caption of a reliability diagram."""
    return f"Reliability of {task} before and after calibration"
