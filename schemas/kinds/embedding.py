"""Embedding: one vector a text, for search, clustering and near-duplicates; nothing is decided."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Self

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, model_validator

from schemas.arrays import BoolArray, Float32Array, Int64Array
from schemas.decision.vectors import Agreement, VectorScores, same_answer
from schemas.kinds.base import Answer, OutputSpec
from schemas.tables import ProbabilityFormat
from schemas.tasks.parents import Parents
from schemas.tasks.sections import Section, TaskOptions
from schemas.text.tokens import TokenizedText

EMBEDDING = "embedding"
"""Name of the kind, of its output in a graph, and of its column."""

Pooling = Literal["mean", "cls", "max"]
"""From the vectors of a text's tokens to one, see `trainer.model.pooling`."""


class EmbeddingDecisionConfig(Section):
    """Nothing is decided, so there is nothing to set."""


class EmbeddingOptions(TaskOptions):
    """What only a task that gives vectors may set in the config.

    The task is not trained: it takes the encoder as it is, or as the other tasks leave it. Its data
    are texts without labels; reduced precisions are checked on those held out.
    """

    pooling: Pooling = "mean"
    """From the vectors of a text's tokens to one: their `mean`, the greatest value of each number
    (`max`), or the vector of the first token (`cls`)."""
    layers: int = Field(default=1, ge=1)
    """Last layers of the encoder whose mean is pooled."""
    dimension: int | None = Field(default=None, ge=1)
    """Length of the vectors; shorter than the encoder's, they are projected onto the principal
    components of the training texts. Without it, as long as the encoder's."""
    normalize: bool = True
    """Scale every vector to length 1, so that a dot product is the cosine."""
    decision: EmbeddingDecisionConfig = EmbeddingDecisionConfig()
    """Nothing to set."""

    @model_validator(mode="after")
    def _no_labels(self) -> Self:
        if getattr(self, "labels", None) is not None:
            raise ValueError("labels: a task of kind 'embedding' has none")
        return self


class EmbeddingDecision(BaseModel):
    """What the ONNX file carries of a task that gives vectors."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dimension: int = Field(ge=1)
    """Length of a vector."""


class EmbeddingEvidence(BaseModel):
    """How similar held-out texts are to each other: what counts as near.

    Each is a cosine at the quantiles 0.05, 0.25, 0.5, 0.75 and 0.95; empty with fewer than two
    texts.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    any_two: tuple[float, ...]
    """Of two texts."""
    nearest: tuple[float, ...]
    """Of a text and the one nearest to it."""


@dataclass(frozen=True)
class Vectors:
    """Answers of a task that gives vectors. vectors: (rows, dimension) float32."""

    vectors: Float32Array

    def __len__(self) -> int:
        return len(self.vectors)

    def take(self, rows: Int64Array) -> Self:
        """Vectors of the given rows; -1 gives zeros."""
        is_answer = rows >= 0
        vectors = np.zeros((len(rows), self.vectors.shape[1]), np.float32)
        vectors[is_answer] = self.vectors[rows[is_answer]]
        return replace(self, vectors=vectors)

    def followed_by(self, others: Sequence[Self]) -> Self:
        """These vectors and then those of the others."""
        return replace(self, vectors=np.concatenate([part.vectors for part in (self, *others)]))

    def columns(self, is_answered: BoolArray, form: ProbabilityFormat) -> list[pa.Array]:
        """The vectors, null for a row without an answer."""
        values = pa.array(np.ascontiguousarray(self.vectors).ravel())
        dimension = self.vectors.shape[1]
        mask = pa.array(~is_answered)
        return [pa.FixedSizeListArray.from_arrays(values, dimension, mask=mask)]

    def changed(self, other: Self) -> BoolArray:
        """(rows, 1) vectors that point another way, see `schemas.decision.vectors`."""
        return ~same_answer(self.vectors, other.vectors)[:, None]

    def answers(self) -> list[Answer]:
        """Vector of each row."""
        return [Answer(embedding=vector) for vector in self.vectors]


class EmbeddingKind:
    """See `schemas.kinds.base.Kind`. Gold values are empty: there is nothing to compare with."""

    NAME = EMBEDDING
    HAS_LABELS = False
    NEEDS_WORDS = False
    HAS_REFERENCES = False
    GOLD_TYPES = "nothing: vectors have no gold values"
    Options = EmbeddingOptions
    Decision = EmbeddingDecision
    Evidence = EmbeddingEvidence
    Scores = VectorScores

    def output(self, width: int) -> OutputSpec:
        """Vectors, (rows, dimension)."""
        return OutputSpec(EMBEDDING, width, keeps_length=True)

    def width(self, labels: Sequence[str], decision: EmbeddingDecision) -> int:
        """The dimension."""
        return decision.dimension

    def check(self, labels: Sequence[str], decision: EmbeddingDecision) -> None:
        """There is nothing that could not fit."""

    def check_evidence(self, labels: Sequence[str], evidence: BaseModel) -> None:
        """There is nothing that could not fit."""

    def fields(
        self, labels: tuple[str, ...], width: int, form: ProbabilityFormat
    ) -> list[pa.Field]:
        """`embedding`."""
        return [pa.field(EMBEDDING, pa.list_(pa.float32(), width))]

    def accepts_gold(self, column_type: pa.DataType) -> bool:
        """False for every type."""
        return False

    def read_gold(self, column: pa.Array) -> list[tuple[()] | None]:
        """Nothing for each row; every row may be used."""
        return [()] * len(column)

    def gold_labels(self, gold: tuple[()]) -> Sequence[str]:
        """None."""
        return gold

    def gold_problem(self, gold: tuple[()], text: str) -> None:
        """None: there is nothing that could not fit."""

    def empty_gold(self) -> tuple[()]:
        """Nothing."""
        return ()

    def only_known(self, gold: tuple[()], known: Collection[str]) -> tuple[()]:
        """Nothing."""
        return gold

    def complete(self, gold: tuple[()], parents: Parents) -> tuple[()]:
        """The value itself."""
        return gold

    def encode(self, gold: Sequence[tuple[()]], labels: tuple[str, ...]) -> Float32Array:
        """(rows, 0) float32."""
        return np.zeros((len(gold), 0), np.float32)

    def decide(
        self,
        outputs: Sequence[Float32Array],
        labels: tuple[str, ...],
        decision: EmbeddingDecision,
        texts: Sequence[TokenizedText],
    ) -> Vectors:
        """The outputs as they are.

        outputs: vector of each text, (dimension,) float32.
        """
        empty = np.zeros((0, decision.dimension), np.float32)
        return Vectors(np.stack(outputs) if len(outputs) else empty)

    def compare(self, targets: Float32Array, decided: Vectors) -> Agreement:
        """Compare with the vectors of another precision; targets: (rows, dimension) float32."""
        return Agreement.count(targets, decided.vectors)
