"""What an ONNX file says of itself: to and from its `metadata_props`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from schemas.arrays import Float32Array
from schemas.bundle.variants import DeviceKind, Precision
from schemas.decision.decide import Calibration, CalibrationChoice, Probability
from schemas.decision.metrics import Scores
from schemas.decision.thresholds import ThresholdRule
from schemas.errors import BundleError
from schemas.io.json_values import parse_json
from schemas.printable import printable
from schemas.tasks.task import LabelNames, TaskKind, TaskName
from schemas.text.model_text import TextSpec

SCHEMA_VERSION = 1
PREFIX = "narrascan."
MAX_PROBLEMS, MAX_PROBLEM = 12, 300
"""Problems of a file that a message lists, and characters of each."""
TASK_KEY = "task."
"""Before the name of a task in a file that several share."""


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
    loss: str
    versions: dict[str, str]


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


class CalibrationQuality(BaseModel):
    """How far probabilities were from what was so, each in label order; 0 is best."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    ece: tuple[Probability, ...]
    """Expected calibration error: mean distance between the mean probability of a bin and its share
    of positives (Guo et al., 2017), in bins of equal mass (Nixon et al., 2019)."""
    brier: tuple[Probability, ...]
    """Mean squared distance between probability and gold (Brier, 1950)."""


class DecisionFacts(BaseModel):
    """How calibration and thresholds were chosen on the held-out texts; tuples in label order."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    calibration: CalibrationChoice
    """What was asked for; the calibration itself says what was fitted."""
    thresholds: ThresholdRule
    """The rule that chose the thresholds."""
    confidence: Probability
    """Share of the resamples whose threshold lies inside `intervals`."""
    intervals: tuple[tuple[Probability, Probability], ...]
    """Where each threshold lies when the held-out texts are drawn again, low and high."""
    positives: tuple[int, ...]
    """Held-out texts that have the label."""
    before: CalibrationQuality
    """Of the sigmoid of the logits."""
    after: CalibrationQuality
    """Of calibrated probabilities, each text's by a fit without it."""


class Portability(BaseModel):
    """How far logits may be from those of the export on another kind of machine."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    texts: int
    """Probes that were run; the bundle keeps them with their logits."""
    machine: str
    """Processor and engine of the export."""
    max_logit_difference: float
    """Between ways to compute the same on that machine: canonical batches, one by one, by
    torch, by other engines."""
    bound: float = Field(gt=0.0)
    """Largest difference of a logit that `export-classifier verify` accepts anywhere."""


class Recalibration(BaseModel):
    """On what calibration and thresholds were found again, after the export.

    What was measured against torch stays as it was; the graph is the same.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    data_sha256: str
    """Over the hashes of the files, in their order."""
    rows: int
    """Labelled rows that had a say."""
    bundle_sha256: str
    """Of the bundle that it was done with."""


class ArtefactMetrics(BaseModel):
    """What was measured of an artefact before it was published."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    validation: Scores
    """On the held-out texts that thresholds and calibration were found on: mostly too high."""
    cross_validated: Scores
    """On the same texts, each decided with calibration and thresholds found without it."""
    verification: Verification
    portability: Portability


class VariantCost(BaseModel):
    """What a reduced precision costs on the held-out texts, against fp32 with its own decision."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    texts: int
    drift_max: float
    """Largest difference of a probability, both by the calibration of fp32."""
    drift_mean: float
    changed_decisions: Probability
    """Share of (row, label) decisions that differ."""
    changed_articles: Probability
    """Share of texts whose set of labels differs."""
    micro_f1_before: Probability
    micro_f1_after: Probability
    macro_f1_before: Probability
    macro_f1_after: Probability
    kept: tuple[str, ...]
    """Nodes of the graph that were left in a higher precision."""
    device: DeviceKind = "cpu"
    """Where it was measured: fp16 is run by a CPU where the exporting machine has no CUDA."""


class VariantFacts(BaseModel):
    """How a file decides when it is run in a reduced precision, fitted on that very variant."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    thresholds: tuple[Probability, ...]
    calibration: Calibration
    decision: DecisionFacts
    validation: Scores
    cross_validated: Scores
    cost: VariantCost
    verification: Verification | None = None
    """Of a file of its own against torch; else that of fp32 holds."""


class ArtefactMetadata(BaseModel):
    """Everything a scorer needs beside the graph and the tokenizer."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    schema_version: int = SCHEMA_VERSION
    task: TaskName
    kind: TaskKind
    labels: LabelNames
    thresholds: tuple[Probability, ...]
    calibration: Calibration
    decision: DecisionFacts
    max_tokens: int = Field(ge=3)
    pad_id: int = Field(ge=0, lt=2**31)
    text: TextSpec
    tokenizer_sha256: str
    encoder: EncoderFacts
    training: TrainingFacts
    metrics: ArtefactMetrics
    recalibration: Recalibration | None
    """None where calibration and thresholds are those of the export."""
    precision: Precision
    """Of the file; `variants` says in which others it may be run."""
    cost: VariantCost | None
    """Of a reduced precision."""
    variants: dict[Precision, VariantFacts]
    """Reduced precisions that the engine makes of this same file, and that passed their gate."""

    @model_validator(mode="after")
    def _one_value_a_label(self) -> Self:
        calibration, decision = self.calibration, self.decision
        one_a_label: dict[str, Sequence[object]] = {
            "thresholds": self.thresholds,
            "calibration.scale": calibration.scale,
            "calibration.bias": calibration.bias,
            "decision.intervals": decision.intervals,
            "decision.positives": decision.positives,
            "decision.before.ece": decision.before.ece,
            "decision.before.brier": decision.before.brier,
            "decision.after.ece": decision.after.ece,
            "decision.after.brier": decision.after.brier,
        }
        if calibration.method == "isotonic":
            one_a_label["calibration.knots"] = calibration.knots
        for name, values in one_a_label.items():
            if len(values) != len(self.labels):
                raise ValueError(f"{name} has {len(values)} values for {len(self.labels)} labels")
        return self

    def at(self, precision: Precision) -> ArtefactMetadata:
        """The same task as it decides in a precision that this file may be run in (KeyError)."""
        if precision == self.precision:
            return self
        variant = self.variants[precision]
        return self.model_copy(
            update={
                "precision": precision,
                "thresholds": variant.thresholds,
                "calibration": variant.calibration,
                "decision": variant.decision,
                "cost": variant.cost,
                "variants": {},
                "metrics": self.metrics.model_copy(
                    update={
                        "validation": variant.validation,
                        "cross_validated": variant.cross_validated,
                        "verification": variant.verification or self.metrics.verification,
                    }
                ),
            }
        )

    @property
    def threshold_array(self) -> Float32Array:
        """(labels,) float32."""
        return np.asarray(self.thresholds, dtype=np.float32)

    def to_props(self) -> dict[str, str]:
        """One JSON text a field, each key under the prefix."""
        stored = self.model_dump(mode="json")
        return {
            PREFIX + key: json.dumps(value, ensure_ascii=False) for key, value in stored.items()
        }

    @classmethod
    def from_props(cls, props: Mapping[str, str], *, source: str) -> ArtefactMetadata:
        """Read what `to_props` wrote.

        Raises BundleError if the file says nothing of itself, says something that is not valid,
        or was written by a newer version.
        """
        return cls._of(_read_props(props, source), source=source)

    @classmethod
    def _of(cls, stored: dict[str, object], *, source: str) -> Self:
        check_version(stored.get("schema_version"), source=source)
        try:
            return cls.model_validate(stored)
        except ValidationError as error:
            raise BundleError(
                f"{source}: metadata is not valid: {validation_problems(error, 'metadata')}",
                hint="export the checkpoint again",
            ) from error


def shared_props(tasks: Sequence[ArtefactMetadata]) -> dict[str, str]:
    """Metadata of a file that several tasks share: all of a task as one JSON text under its key."""
    return {PREFIX + TASK_KEY + about.task: about.model_dump_json() for about in tasks}


def shared_from_props(props: Mapping[str, str], *, source: str) -> dict[str, ArtefactMetadata]:
    """Read what `shared_props` wrote, by task; raises as `ArtefactMetadata.from_props` does."""
    found = {}
    for key, stored in _read_props(props, source).items():
        if key.startswith(TASK_KEY) and isinstance(stored, dict):
            task = key.removeprefix(TASK_KEY)
            metadata = ArtefactMetadata._of(stored, source=f"{source}: {printable(PREFIX + key)}")
            check_task(metadata, task, source=f"{source}: {printable(PREFIX + key)}")
            found[task] = metadata
    return found


def check_task(metadata: ArtefactMetadata, task: str, *, source: str) -> None:
    """Refuse what a file says of another task than the one that it was opened for (BundleError)."""
    if metadata.task != task:
        raise BundleError(
            f"{source}: is listed for task {printable(task)!r}, and its metadata is that of task "
            f"{metadata.task!r}",
            hint="export the checkpoint again",
        )


def check_shared(tasks: Sequence[ArtefactMetadata], *, source: str) -> None:
    """Refuse tasks that cannot have been exported as one graph (BundleError).

    They are scored by the same token ids in the same batches, so that all of them must have been
    exported for the same text, tokenizer and padding.
    """
    for name in ("text", "max_tokens", "pad_id", "tokenizer_sha256", "precision"):
        first, *others = tasks
        for other in others:
            if getattr(first, name) != getattr(other, name):
                raise BundleError(
                    f"{source}: tasks {first.task!r} and {other.task!r} share this graph and "
                    f"differ in {name}: {getattr(first, name)!r} and {getattr(other, name)!r}",
                    hint="export the checkpoint again",
                )


def validation_problems(error: ValidationError, whole: str) -> str:
    """The first problems that pydantic names, with their keys; `whole` is that of the document."""
    problems = [
        printable(f"{'.'.join(map(str, problem['loc'])) or whole}: {problem['msg']}")[:MAX_PROBLEM]
        for problem in error.errors()
    ]
    more = len(problems) - MAX_PROBLEMS
    return "; ".join([*problems[:MAX_PROBLEMS], *([f"and {more} more"] if more > 0 else [])])


def _read_props(props: Mapping[str, str], source: str) -> dict[str, object]:
    """What stands under the prefix, parsed; BundleError if it is no JSON or nothing."""
    stored: dict[str, object] = {}
    for key, value in props.items():
        if key.startswith(PREFIX):
            try:
                stored[key.removeprefix(PREFIX)] = parse_json(value)
            except ValueError as error:
                raise BundleError(
                    f"{source}: metadata {printable(key)} is not JSON: {value[:80]!r}",
                    hint="export the checkpoint again",
                ) from error
    if not stored:
        raise BundleError(
            f"{source}: no {PREFIX}* metadata in the file",
            hint="it was not written by export-classifier; export the checkpoint with it",
        )
    return stored


def check_version(found: object, *, source: str) -> None:
    """Refuse a `schema_version` that this version of narrascan cannot read (BundleError)."""
    if not isinstance(found, int) or isinstance(found, bool) or found < 1:
        shown = printable(repr(found))[:MAX_PROBLEM]
        raise BundleError(f"{source}: schema_version is {shown}, expected {SCHEMA_VERSION}")
    if found > SCHEMA_VERSION:
        raise BundleError(
            f"{source}: schema_version {found} is newer than {SCHEMA_VERSION}, the newest that "
            "this installation can read",
            hint="upgrade narrascan",
        )
