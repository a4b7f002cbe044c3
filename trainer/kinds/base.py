"""What `trainer` adds to a task kind: its head, its loss, and its scores while training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa
from torch import Tensor, nn

from schemas.arrays import Float32Array
from schemas.decision.metrics import F1Scores
from schemas.tasks.sections import Sampling, TaskOptions
from trainer.data.task_data import TaskData, TokenizedRows
from trainer.model.encoders import LoadedEncoder
from trainer.model.entity import MarkerIds
from trainer.model.heads import Head

LossFunction = Callable[[Tensor, Tensor], Tensor]
"""From outputs of a head and targets of the same rows to their mean loss."""

RunHead = Callable[[nn.Module, TokenizedRows], list[Float32Array]]
"""Outputs of a head over the trained encoder, of each row."""


@dataclass(frozen=True)
class FinishedHead:
    """What was done to a head after training.

    changed: if its weights were. corrections: of a head that learned from held-out rows, what turns
    the outputs of these rows into those of a head that did not; one array a row.
    """

    changed: bool = False
    corrections: Sequence[Float32Array] | None = None


class Objective(Protocol):
    """What a kind is trained for; `options` are those of its tasks."""

    def check_loss(self, options: TaskOptions) -> None:
        """Raise ValueError for an unknown loss, or parameters that it does not take."""
        ...

    def loss_name(self, options: TaskOptions) -> str:
        """Name of the loss, for the record."""
        ...

    def loss(self, options: TaskOptions, data: TaskData, head: Head) -> LossFunction:
        """Loss of a task, for its training rows. head: where a loss may store what it remembers."""
        ...

    def sampling(self, options: TaskOptions) -> tuple[Sampling, float]:
        """How often rows with rare labels are drawn, and below which share a label is rare."""
        ...

    def collate(self, data: TokenizedRows, rows: Sequence[int], seq: int) -> Tensor:
        """Targets of some rows as the loss takes them. seq: second axis of the outputs."""
        ...

    def held_out_loss(
        self, loss: LossFunction, outputs: Sequence[Float32Array], held_out: TokenizedRows
    ) -> float:
        """Mean loss of the held-out rows. outputs: of each row."""
        ...

    def score(
        self, options: TaskOptions, data: TaskData, outputs: Sequence[Float32Array]
    ) -> F1Scores:
        """Scores of the held-out rows, by the simplest decision that suits them best.

        outputs: of each of these rows.
        """
        ...


@dataclass(frozen=True)
class HeadShape:
    """What a head depends on besides the options of its task.

    hidden: width of the encoder. labels: of the task. dropout: share of the values that are zeroed
    while training. markers: of the entity, for a task that marks one.
    """

    hidden: int
    labels: int
    dropout: float = 0.0
    markers: MarkerIds | None = None


class TrainerKind(Protocol):
    """What `trainer` adds to a kind; `options` are those of its tasks."""

    GOLD_TYPE: pa.DataType
    """Arrow type of gold values in a checkpoint."""

    def objective(self, options: TaskOptions) -> Objective | None:
        """What a task is trained for; None where the encoder is taken as it is."""
        ...

    def head(self, options: TaskOptions, shape: HeadShape) -> Head:
        """Head of a task: (rows, seq, hidden) and an attention mask to the task's output."""
        ...

    def start_head(
        self, head: Head, options: TaskOptions, data: TaskData, encoder: LoadedEncoder
    ) -> None:
        """Set initial weights of a head that are not random. Raises ConfigError."""
        ...

    def finish_head(
        self, head: Head, options: TaskOptions, data: TaskData, run_head: RunHead
    ) -> FinishedHead:
        """Set weights that depend on the trained encoder."""
        ...

    def reference_ids(self, data: TaskData) -> Sequence[str]:
        """Ids of the reference texts, in the order that the head has them; none for most kinds."""
        ...
