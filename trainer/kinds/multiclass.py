"""Multiclass: heads and losses of tasks with one label a row."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import torch
from scipy.special import log_softmax
from torch import Tensor

from schemas.arrays import Float32Array, Int64Array
from schemas.decision.classes import ClassScores, Confusion
from schemas.kinds.multiclass import MulticlassOptions
from schemas.tasks.sections import Sampling, TaskOptions
from trainer.data.task_data import TaskData, TokenizedRows
from trainer.kinds.base import LossFunction
from trainer.kinds.label_heads import LabelHeadKind
from trainer.losses.softmax import make_class_loss
from trainer.model.heads import Head


class MulticlassObjective:
    """See `trainer.kinds.base.Objective`."""

    def check_loss(self, options: TaskOptions) -> None:
        """Build the loss for two labels that nothing is known of."""
        loss = _own(options).loss
        make_class_loss(loss.name, counts=np.ones(2, np.int64), **loss.parameters)

    def loss_name(self, options: TaskOptions) -> str:
        """A key of `trainer.losses.softmax.CLASS_LOSSES`."""
        return _own(options).loss.name

    def loss(self, options: TaskOptions, data: TaskData, head: Head) -> LossFunction:
        """Loss for the label counts of the training rows."""
        loss = _own(options).loss
        counts = np.asarray(data.positives, dtype=np.int64)
        return make_class_loss(loss.name, counts=counts, **loss.parameters)

    def sampling(self, options: TaskOptions) -> tuple[Sampling, float]:
        """As the config says."""
        own = _own(options)
        return own.sampling, own.sampling_threshold

    def collate(self, data: TokenizedRows, rows: Sequence[int], seq: int) -> Tensor:
        """(rows,) int64."""
        return torch.from_numpy(_targets(data)[list(rows)])

    def held_out_loss(
        self, loss: LossFunction, outputs: Sequence[Float32Array], held_out: TokenizedRows
    ) -> float:
        """Mean over all rows at once."""
        return float(
            loss(torch.from_numpy(np.stack(outputs)), torch.from_numpy(_targets(held_out)))
        )

    def score(
        self, options: TaskOptions, data: TaskData, outputs: Sequence[Float32Array]
    ) -> ClassScores:
        """Scores of the highest logits."""
        logits = np.stack(outputs)
        decided = logits.argmax(axis=1).astype(np.int64)
        return Confusion.count(_targets(data.validation), decided, logits.shape[1]).scores()


OBJECTIVE = MulticlassObjective()


class MulticlassTrainerKind(LabelHeadKind):
    """See `trainer.kinds.base.TrainerKind`."""

    GOLD_TYPE = pa.string()

    def objective(self, options: TaskOptions) -> MulticlassObjective:
        """The one of the kind."""
        return OBJECTIVE

    def share_logits(self, positives: Float32Array, rows: int) -> Float32Array:
        """Logarithms of the shares, with half a row more of each label."""
        logits: Float32Array = np.log((positives + 0.5) / (positives + 0.5).sum())
        return logits

    def comparable(self, outputs: Float32Array) -> Float32Array:
        """Logarithms of the softmax."""
        return np.asarray(log_softmax(outputs, axis=1), np.float32)


def _targets(rows: TokenizedRows) -> Int64Array:
    """(rows,) int64, the number of each row's label."""
    assert isinstance(rows.targets, np.ndarray)
    return rows.targets


def _own(options: TaskOptions) -> MulticlassOptions:
    assert isinstance(options, MulticlassOptions)
    return options
