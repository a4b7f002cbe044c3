"""Multilabel: heads and losses of long-tailed labels, and scores at one threshold."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from schemas.arrays import BoolArray, Float32Array
from schemas.decision.decide import Calibration, calibrate
from schemas.decision.metrics import Hits, LabelScores
from schemas.decision.set_rule import SetRule, check_enough_labels
from schemas.decision.thresholds import best_threshold
from schemas.errors import ConfigError, listing, nearest
from schemas.kinds.multilabel import MultilabelOptions
from schemas.tasks.parents import Parents, parents_among
from schemas.tasks.sections import Sampling, TaskOptions
from trainer.data.task_data import TaskData, TokenizedRows
from trainer.kinds.base import LossFunction
from trainer.kinds.label_heads import LabelHeadKind
from trainer.losses.sigmoid import make_loss
from trainer.model.encoders import LoadedEncoder
from trainer.model.heads import Head

log = logging.getLogger(__name__)

LOWEST_START = np.float32(-3.0)
"""Mean logit, before training, of labels that fewer than one row in twenty has: from further below,
a row or two in thousands would not raise it."""


class MultilabelObjective:
    """See `trainer.kinds.base.Objective`."""

    def check_loss(self, options: TaskOptions) -> None:
        """Build the loss for one label that nothing is known of."""
        loss = _own(options).loss
        positives = np.ones(1, np.int64)
        make_loss(loss.name, positives=positives, rows=2, training_labels=None, **loss.parameters)

    def loss_name(self, options: TaskOptions) -> str:
        """A key of `trainer.losses.sigmoid.LOSSES`."""
        return _own(options).loss.name

    def loss(self, options: TaskOptions, data: TaskData, head: Head) -> LossFunction:
        """Loss for the label counts of the training rows."""
        loss = _own(options).loss
        return make_loss(
            loss.name,
            positives=np.asarray(data.positives, dtype=np.int64),
            rows=len(data.train),
            training_labels=data.train.labels,
            **loss.parameters,
        )

    def sampling(self, options: TaskOptions) -> tuple[Sampling, float]:
        """As the config says."""
        own = _own(options)
        return own.sampling, own.sampling_threshold

    def collate(self, data: TokenizedRows, rows: Sequence[int], seq: int) -> Tensor:
        """(rows, labels) bool."""
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
    ) -> LabelScores:
        """Scores at the one threshold that suits these rows best."""
        targets = _targets(data.validation)
        labels = targets.shape[1]
        own = _own(options)
        parents = parents_among(own.parents, data.labels)
        sets = SetRule.of(data.labels, own.decision, parents)
        uncalibrated = calibrate(np.stack(outputs), Calibration.none(labels))
        probabilities = sets.tree.probabilities(uncalibrated)
        threshold = np.full(labels, best_threshold(probabilities, targets), dtype=np.float32)
        return Hits.count(targets, sets.decide(probabilities, threshold)).scores()


OBJECTIVE = MultilabelObjective()


class MultilabelTrainerKind(LabelHeadKind):
    """See `trainer.kinds.base.TrainerKind`."""

    GOLD_TYPE = pa.list_(pa.string())

    def objective(self, options: TaskOptions) -> MultilabelObjective:
        """The one of the kind."""
        return OBJECTIVE

    def start_head(
        self, head: Head, options: TaskOptions, data: TaskData, encoder: LoadedEncoder
    ) -> None:
        """Check parents and limits against the labels of the data; start the head."""
        own = _own(options)
        _check_fine_labels(data.task, data.labels, own.parents)
        try:
            check_enough_labels(own.decision, data.labels, parents_among(own.parents, data.labels))
        except ValueError as error:
            raise ConfigError(f"tasks.{data.task}.decision: {error}") from error
        super().start_head(head, options, data, encoder)

    def share_logits(self, positives: Float32Array, rows: int) -> Float32Array:
        """Log-odds, with half a row more on either side, and not below `LOWEST_START`."""
        logits: Float32Array = np.log((positives + 0.5) / (rows - positives + 0.5))
        return np.maximum(logits, LOWEST_START)


def _check_fine_labels(task: str, labels: Sequence[str], parents: Parents) -> None:
    """Raise ConfigError for a parent of what looks like another label of the data.

    Labels that the data have no row of are only counted in the log: one config serves languages and
    folds where some of them do not occur.
    """
    others = [label for label in labels if label not in {*parents, *parents.values()}]
    missing = [fine for fine in parents if fine not in labels]
    for fine in missing:
        close = nearest(fine, others)
        if close is not None:
            raise ConfigError(
                f"tasks.{task}.parents: {fine!r} is no label of the data",
                hint=f"did you mean {close!r}?",
            )
    if missing:
        log.info("task %r: no row has these labels of `parents`: %s", task, listing(missing))


def _targets(rows: TokenizedRows) -> BoolArray:
    """(rows, labels) bool."""
    assert isinstance(rows.targets, np.ndarray)
    return rows.targets


def _own(options: TaskOptions) -> MultilabelOptions:
    assert isinstance(options, MultilabelOptions)
    return options
