"""Metadata of a task: what its ONNX file says of itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, SerializeAsAny, create_model, model_validator

from schemas.bundle.facts import (
    EncoderFacts,
    Portability,
    Recalibration,
    References,
    TrainingFacts,
    VariantCost,
    Verification,
)
from schemas.bundle.variants import PRECISION_SPECS, Precision
from schemas.decision.metrics import Scores
from schemas.errors import BundleError
from schemas.kinds import KINDS, TaskKind, check_labels
from schemas.kinds.base import OutputSpec
from schemas.printable import printable
from schemas.tasks.task import LabelNames, TaskName
from schemas.text.model_text import TextSpec
from schemas.text.windows import WindowSpec, layout_of, most_tokens
from schemas.version import SCHEMA_VERSION


class ArtefactMetrics(BaseModel):
    """What was measured of an artefact before it was published; scores are those of its kind."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    validation: SerializeAsAny[Scores]
    """On the held-out texts that the decision was fitted to: mostly too high."""
    cross_validated: SerializeAsAny[Scores]
    """On the same texts, each decided by a fit without it."""
    verification: Verification
    portability: Portability


class VariantFacts(BaseModel):
    """How a file decides when it is run in a reduced precision, fitted on that very variant."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    decision: SerializeAsAny[BaseModel]
    evidence: SerializeAsAny[BaseModel]
    validation: SerializeAsAny[Scores]
    cross_validated: SerializeAsAny[Scores]
    cost: VariantCost
    verification: Verification | None = None
    """Of a file of its own against torch; otherwise that of fp32 applies."""


class ArtefactMetadata(BaseModel):
    """What an ONNX file says of one task, beside the decision of its kind.

    Instances are of `metadata_model(kind)`, which has the fields of the kind's `Decision` too.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    schema_version: int = SCHEMA_VERSION
    task: TaskName
    kind: TaskKind
    labels: LabelNames
    evidence: SerializeAsAny[BaseModel]
    """How the decision was chosen."""
    max_tokens: int = Field(ge=3)
    pad_id: int = Field(ge=0, lt=2**31)
    text: TextSpec
    windows: WindowSpec | None
    """In which texts are read that are longer than one; None where they are truncated."""
    tokenizer_sha256: str
    references: References | None
    """None for a kind without reference texts."""
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
    def _decision_fits_labels(self) -> Self:
        check_labels(self.kind, self.labels)
        if self.windows is not None and self.windows.tokens > self.max_tokens:
            raise ValueError(
                f"windows of {self.windows.tokens} tokens, and max_tokens is {self.max_tokens}"
            )
        KINDS[self.kind].check(self.labels, self)
        KINDS[self.kind].check_evidence(self.labels, self.evidence)
        for precision, variant in self.variants.items():
            try:
                KINDS[self.kind].check(self.labels, variant.decision)
            except ValueError as error:
                raise ValueError(f"variant {precision}: {error}") from error
        if (self.references is not None) != KINDS[self.kind].HAS_REFERENCES:
            raise ValueError(
                f"a task of kind {self.kind!r} needs ids of reference texts"
                if self.references is None
                else f"a task of kind {self.kind!r} has no reference texts"
            )
        return self

    @property
    def output(self) -> OutputSpec:
        """Output of the task, as a file of this task alone has it."""
        kind = KINDS[self.kind]
        return kind.output(kind.width(self.labels, self)).in_windows(self.windows)

    @property
    def most_tokens(self) -> int:
        """Largest number of tokens that is read of a text."""
        return most_tokens(self.windows, self.max_tokens)

    @property
    def window_layout(self) -> tuple[int, int, int] | None:
        """All that the token ids of windows depend on; None without windows."""
        return layout_of(self.windows)

    @property
    def output_with_neighbours(self) -> OutputSpec:
        """The same, with the output that names the nearest reference texts where there is one."""
        return self.output.with_neighbours(self.references.neighbours if self.references else 0)

    @property
    def answer(self) -> str:
        """How large an answer is, in words."""
        labels = len(self.labels)
        return f"{labels} labels" if labels else f"{self.output.width} numbers"

    def decided_by(self, decision: BaseModel, evidence: BaseModel) -> Self:
        """The same with another decision."""
        return self.model_copy(update={**dict(decision), "evidence": evidence})

    def at(self, precision: Precision) -> Self:
        """The same task as it decides in a precision that this file may be run in (KeyError)."""
        if precision == self.precision:
            return self
        variant = self.variants[precision]
        metrics = self.metrics.model_copy(
            update={
                "validation": variant.validation,
                "cross_validated": variant.cross_validated,
                "verification": variant.verification or self.metrics.verification,
            }
        )
        return self.decided_by(variant.decision, variant.evidence).model_copy(
            update={
                "precision": precision,
                "cost": variant.cost,
                "variants": {},
                "metrics": metrics,
            }
        )

    def with_variants(self, variants: Mapping[Precision, VariantFacts]) -> VariantMetadata:
        """What each file of this task says of itself, given the variants that passed their gate."""
        whole = self.model_copy(update={"variants": dict(variants)})
        inside = {
            one: facts for one, facts in variants.items() if not PRECISION_SPECS[one].has_own_file
        }
        return VariantMetadata(
            fp32=self.model_copy(update={"variants": inside}),
            own_files={one: whole.at(one) for one in variants if PRECISION_SPECS[one].has_own_file},
        )


@dataclass(frozen=True)
class VariantMetadata:
    """What the files of one task say of themselves.

    fp32: also of the precisions that an engine makes of the same file. own_files: of the others.
    """

    fp32: ArtefactMetadata
    own_files: Mapping[Precision, ArtefactMetadata]

    def of_file(self, precision: Precision) -> ArtefactMetadata:
        """What the file that serves a precision says of itself."""
        return self.own_files.get(precision, self.fp32)


@cache
def variant_model(kind: str) -> type[VariantFacts]:
    """Facts of a variant of a task of a kind."""
    task_kind = KINDS[kind]
    model: type[VariantFacts] = create_model(
        f"{kind.title()}Variant",
        __base__=VariantFacts,
        __module__=__name__,
        decision=(task_kind.Decision, ...),
        evidence=(task_kind.Evidence, ...),
        **_scores(kind),
    )
    return model


@cache
def metadata_model(kind: str) -> type[ArtefactMetadata]:
    """Metadata of a task of a kind: decision, evidence and scores are those of the kind."""
    task_kind, named, variant = KINDS[kind], kind.title(), variant_model(kind)
    metrics = create_model(
        f"{named}Metrics", __base__=ArtefactMetrics, __module__=__name__, **_scores(kind)
    )
    bases: Any = (task_kind.Decision, ArtefactMetadata)
    model: type[ArtefactMetadata] = create_model(
        f"{named}Metadata",
        __base__=bases,
        __module__=__name__,
        evidence=(task_kind.Evidence, ...),
        metrics=(metrics, ...),
        variants=(dict[Precision, variant], ...),  # type: ignore[valid-type]  # made just above
    )
    return model


def _scores(kind: str) -> dict[str, Any]:
    """Fields of scores, of the kind's own type."""
    return dict.fromkeys(("validation", "cross_validated"), (KINDS[kind].Scores, ...))


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
    for name in (
        "text",
        "window_layout",
        "max_tokens",
        "pad_id",
        "tokenizer_sha256",
        "precision",
    ):
        first, *others = tasks
        for other in others:
            if getattr(first, name) != getattr(other, name):
                raise BundleError(
                    f"{source}: tasks {first.task!r} and {other.task!r} share this graph and "
                    f"differ in {name}: {getattr(first, name)!r} and {getattr(other, name)!r}",
                    hint="export the checkpoint again",
                )
