"""The interface of a task kind: what a task's outputs mean, from gold values to answers.

A kind is one module here and one of the same name in `trainer/kinds/`, `exporter/kinds/` and
`batch/kinds/`, which add what only those packages need.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol, Self, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import BaseModel

from schemas.arrays import BoolArray, Float32Array, Int64Array
from schemas.decision.metrics import Scores
from schemas.decision.neighbours import nearest_of_windows
from schemas.decision.vectors import at_mean_length
from schemas.tables import NEIGHBOURS, ProbabilityFormat
from schemas.tasks.parents import Parents
from schemas.tasks.sections import TaskOptions
from schemas.text.tokens import TokenizedText
from schemas.text.windows import WindowPooling, WindowSpec, pool_windows

Targets = Sequence[npt.NDArray[Any]] | npt.NDArray[Any]
"""Gold values as numbers, one array a row."""


@dataclass(frozen=True)
class OutputSpec:
    """Output of one task in a graph, float32.

    name: of the output in a file of this task alone.
    width: size of the last axis.
    per_token: True for (rows, seq, width), False for (rows, width).
    tolerance: largest difference of a number between ONNX and torch, both fp32.
    pooling: of the outputs of a text's windows, unless they are those of tokens.
    keeps_length: True for vectors: pooled ones are as long as those of the windows on average.
    extra: an optional output of the same graph, (rows, extra.width); a session that is asked for it
    joins it to this one along the last axis. Not for an output of every token.
    """

    name: str
    width: int
    per_token: bool = False
    tolerance: float = 1e-4
    pooling: WindowPooling = "mean"
    keeps_length: bool = False
    extra: OutputSpec | None = None

    def shape(self, tokens: int) -> tuple[int, ...]:
        """Shape of the output of one text of so many tokens, with the extra output joined to it."""
        width = self.width + (self.extra.width if self.extra is not None else 0)
        return (tokens, width) if self.per_token else (width,)

    def size(self, tokens: int) -> int:
        """Numbers of the output of one text of so many tokens."""
        return math.prod(self.shape(tokens))

    def with_neighbours(self, neighbours: int) -> OutputSpec:
        """The same with an extra output that names so many nearest reference texts, if any.

        The extra output has their similarities, the nearest first, and then their numbers.
        """
        extra = OutputSpec(NEIGHBOURS, 2 * neighbours) if neighbours else None
        return replace(self, extra=extra)

    @property
    def names(self) -> tuple[str, ...]:
        """Its name, and that of the extra output where there is one."""
        return (self.name,) if self.extra is None else (self.name, self.extra.name)

    @property
    def alone(self) -> OutputSpec:
        """The same without the extra output."""
        return replace(self, extra=None)

    def in_windows(self, windows: WindowSpec | None) -> OutputSpec:
        """The same output of a task that may read a text in windows."""
        if windows is None or windows.pooling is None:
            return self
        return replace(self, pooling=windows.pooling)

    def of_text(self, outputs: Sequence[Float32Array], text: TokenizedText) -> Float32Array:
        """Output of a text, of `shape`, from those of its pieces (`TokenizedText.pieces`).

        Depends on them alone, to the bit.
        """
        if text.windows is None:
            (output,) = outputs
            return output
        if self.per_token:
            owned = zip(outputs, text.windows.own, strict=True)
            return np.concatenate([output[tokens] for output, tokens in owned])
        stacked = np.stack(outputs)  # (windows, numbers)
        own, extra = stacked[:, : self.width], stacked[:, self.width :]
        pooled = pool_windows(own, self.pooling)
        if self.keeps_length:
            pooled = at_mean_length(pooled, own)
        return pooled if self.extra is None else np.append(pooled, nearest_of_windows(extra))


def corrected(
    outputs: Sequence[Float32Array], corrections: Sequence[Float32Array] | None
) -> Sequence[Float32Array]:
    """Outputs with their corrections added, if there are any; one array a text."""
    if corrections is None:
        return outputs
    return [output + own for output, own in zip(outputs, corrections, strict=True)]


class Entity(NamedTuple):
    """A span of a text with a label.

    start, end: characters of the article's text, end exclusive. text: those characters.
    score: calibrated probability that the span and its label are right.
    """

    start: int
    end: int
    label: str
    text: str
    score: float


@dataclass(frozen=True)
class Answer:
    """What a task says of one text, as a Python value.

    labels: decided labels in label order; empty for a kind without labels.
    probabilities: calibrated, of every label in label order; None where the kind has none.
    embedding: (dimension,) float32; None where the kind has none.
    entities: spans in order of their starts; empty for a kind without.
    """

    labels: tuple[str, ...] = ()
    probabilities: dict[str, float] | None = None
    embedding: Float32Array | None = None
    entities: tuple[Entity, ...] = ()


class Decided(Protocol):
    """Answers of one task for some rows."""

    def __len__(self) -> int: ...

    def take(self, rows: Int64Array) -> Self:
        """Answers of the given rows, in that order; -1 stands for a row without an answer."""
        ...

    def followed_by(self, others: Sequence[Self]) -> Self:
        """These answers and then those of the others, of the same task."""
        ...

    def columns(self, is_answered: BoolArray, form: ProbabilityFormat) -> list[pa.Array]:
        """Prediction columns, in the order of `Kind.fields`.

        is_answered: (rows,) bool; the others get empty lists and nulls.
        """
        ...

    def changed(self, other: Self) -> BoolArray:
        """Decisions that differ, (rows, decisions of a row) bool."""
        ...

    def answers(self) -> list[Answer]:
        """The same as Python values, one a row."""
        ...


class Quality(Protocol):
    """Comparison of answers with gold values; comparisons of different rows add up."""

    def __add__(self, other: Self, /) -> Self: ...

    def scores(self) -> Scores:
        """Scores of everything that was compared."""
        ...


DecisionT = TypeVar("DecisionT", bound=BaseModel)
DecidedT = TypeVar("DecidedT", bound=Decided)
TargetsT = TypeVar("TargetsT", bound=Targets)
GoldT = TypeVar("GoldT")


class Kind(Protocol[DecisionT, DecidedT, TargetsT, GoldT]):
    """What the outputs of a task mean.

    NAME: as the config, the ONNX file and reports have it.
    HAS_LABELS: False for a kind whose tasks have no labels and no gold values.
    NEEDS_WORDS: True for a kind whose answers are places in a text (`TokenizedText.words`).
    HAS_REFERENCES: True for a kind whose tasks can name the reference texts nearest to a text.
    Options: what only a task of this kind may set in the config.
    Decision: what the ONNX file carries to turn outputs into answers.
    Evidence: how that decision was chosen, and how well it holds.
    Scores: what answers are measured by.
    GOLD_TYPES: column types that gold values are read from, for messages.
    """

    NAME: str
    HAS_LABELS: bool
    NEEDS_WORDS: bool
    HAS_REFERENCES: bool
    GOLD_TYPES: str

    @property
    def Options(self) -> type[TaskOptions]: ...  # noqa: N802  # classes, named as such
    @property
    def Decision(self) -> type[DecisionT]: ...  # noqa: N802
    @property
    def Evidence(self) -> type[BaseModel]: ...  # noqa: N802
    @property
    def Scores(self) -> type[Scores]: ...  # noqa: N802

    def output(self, width: int) -> OutputSpec:
        """The output of a task in its graph, of so many numbers a text or token."""
        ...

    def width(self, labels: Sequence[str], decision: DecisionT) -> int:
        """Size of the last axis of the output."""
        ...

    def check(self, labels: Sequence[str], decision: DecisionT) -> None:
        """Raise ValueError unless a decision fits these labels."""
        ...

    def check_evidence(self, labels: Sequence[str], evidence: BaseModel) -> None:
        """Raise ValueError unless the evidence for a decision fits these labels."""
        ...

    def fields(
        self, labels: tuple[str, ...], width: int, form: ProbabilityFormat
    ) -> list[pa.Field]:
        """Prediction columns, without the task's prefix; the first one has the answers.

        width: of the output.
        """
        ...

    def accepts_gold(self, column_type: pa.DataType) -> bool:
        """True if gold values can be read from a column of this type."""
        ...

    def read_gold(self, column: pa.Array) -> list[GoldT | None]:
        """Gold value of each row; None where a row is not labelled."""
        ...

    def gold_labels(self, gold: GoldT) -> Sequence[str]:
        """Labels that a gold value names; a BadText for one that is not UTF-8."""
        ...

    def gold_problem(self, gold: GoldT, text: str) -> str | None:
        """Why a gold value cannot belong to the text of an article; None if it can."""
        ...

    def empty_gold(self) -> GoldT:
        """Gold value that names no label."""
        ...

    def only_known(self, gold: GoldT, known: Collection[str]) -> GoldT | None:
        """The gold value without labels that are not known; None if no label is left."""
        ...

    def complete(self, gold: GoldT, parents: Parents) -> GoldT:
        """The gold value with the labels that it implies: a fine label implies its parent."""
        ...

    def encode(self, gold: Sequence[GoldT], labels: tuple[str, ...]) -> TargetsT:
        """Completed gold values as numbers, one array a row.

        Labels that are not in `labels` are left out.
        """
        ...

    def decide(
        self,
        outputs: Sequence[Float32Array],
        labels: tuple[str, ...],
        decision: DecisionT,
        texts: Sequence[TokenizedText],
    ) -> DecidedT:
        """Turn the output of each text into its answer.

        outputs: one array a text, of `OutputSpec.shape`. Depends on each text alone, to the bit.
        """
        ...

    def compare(self, targets: TargetsT, decided: DecidedT) -> Quality:
        """Compare answers with gold values of the same rows."""
        ...
