"""Facts that an artefact carries: its origin, and what was measured of it."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

from schemas.bundle.variants import DeviceKind
from schemas.decision.decide import Probability


class EncoderFacts(BaseModel):
    """Which encoder an artefact was made from."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    source: str
    model_type: str
    hidden: int
    layers: int
    parameters: int


class TrainingFacts(BaseModel):
    """Where an artefact comes from."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    config_sha256: str
    data_sha256: str
    git_commit: str | None
    train_rows: int
    positives: tuple[int, ...]
    """Training rows of each label, in label order."""
    loss: str | None
    """None for a kind whose tasks are not trained."""
    options: dict[str, JsonValue]
    """What the config set for a task of this kind, but for how it decides."""
    versions: dict[str, str]


class References(BaseModel):
    """Reference texts of a task, which it can name as the neighbours of a text."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    neighbours: int = Field(ge=1)
    """Reference texts that the graph names for each text."""
    ids: tuple[str, ...]
    """Ids of the reference texts, in the order of the vectors in the graph."""

    @model_validator(mode="after")
    def _more_than_neighbours(self) -> Self:
        if len(self.ids) <= self.neighbours:
            raise ValueError(f"{self.neighbours} neighbours of {len(self.ids)} reference texts")
        return self


class Verification(BaseModel):
    """How far the ONNX file and the torch model were found apart, on real texts."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    texts: int
    shapes: int
    logit_tolerance: float
    max_logit_difference: float
    max_differing_decisions: float
    differing_decisions: float
    """Share of (row, label) decisions that differ."""


class Portability(BaseModel):
    """How far logits may be from those of the export on another kind of machine."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    texts: int
    """Probes that were run; the bundle keeps them with their logits."""
    machine: str
    """Processor and engine of the export."""
    max_logit_difference: float
    """Among canonical batches, single texts, torch and other engines on that machine."""
    bound: float = Field(gt=0.0)
    """Largest difference of a logit that `export-classifier verify` accepts anywhere."""


class Recalibration(BaseModel):
    """Rows to which calibration and thresholds were fitted after the export.

    What was measured against torch stays as it was; the graph is the same.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    data_sha256: str
    """Over the hashes of the files, in their order."""
    rows: int
    """Labelled rows that were used."""
    bundle_sha256: str
    """Of the bundle that it was done with."""


class VariantCost(BaseModel):
    """What a reduced precision costs on the held-out texts, against fp32 with its own decision."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    texts: int
    output_error_max: float
    """Largest difference of a probability, both by the calibration of fp32, or of a number of a
    vector."""
    output_error_mean: float
    changed_decisions: Probability
    """Share of all decisions that differ."""
    changed_articles: Probability
    """Share of texts with a decision that differs."""
    before: dict[str, Probability]
    """Headline scores of fp32 by name."""
    after: dict[str, Probability]
    """The same of the variant."""
    kept_nodes: tuple[str, ...]
    """Nodes of the graph that were left in a higher precision."""
    device: DeviceKind = "cpu"
    """Where it was measured: fp16 is run by a CPU where the exporting machine has no CUDA."""
