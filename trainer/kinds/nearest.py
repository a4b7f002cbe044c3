"""Nearest: the training texts become references, over the encoder as it is or brought together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import torch
from accelerate import PartialState
from torch import Tensor

from schemas.arrays import BoolArray, Float32Array, Int64Array
from schemas.decision.decide import decide
from schemas.decision.metrics import Hits, LabelScores
from schemas.decision.thresholds import best_threshold
from schemas.decision.vectors import unit_vectors
from schemas.errors import ConfigError
from schemas.kinds.nearest import MOST_REFERENCES, NearestOptions, most_votes
from schemas.tasks.sections import Sampling, TaskOptions
from schemas.text.short_names import short_name
from trainer.data.task_data import TaskData, TokenizedRows
from trainer.kinds.base import FinishedHead, HeadShape, LossFunction, RunHead
from trainer.kinds.embedding import check_layers
from trainer.losses.alignment import NOT_STORED, AlignmentLoss
from trainer.model.encoders import LoadedEncoder
from trainer.model.heads import EmbeddingHead, Head
from trainer.model.nearest_head import NearestHead


class AlignmentObjective:
    """See `trainer.kinds.base.Objective`: texts with the same labels come together."""

    def check_loss(self, options: TaskOptions) -> None:
        """Every choice that the config accepts is one."""

    def loss_name(self, options: TaskOptions) -> str:
        """What a text is compared with."""
        return f"alignment-{_own(options).alignment}"

    def loss(self, options: TaskOptions, data: TaskData, head: Head) -> LossFunction:
        """Contrast with rows of the step, or with what the head stores."""
        own = _own(options)
        assert isinstance(head, NearestHead)
        assert own.alignment != "none"
        return AlignmentLoss(
            own.alignment,
            pairs=own.pairs,
            temperature=own.temperature,
            memory=lambda: head.memory,
            stored_labels=torch.from_numpy(
                data.train.labels
                if own.alignment == "datapoint_memory"
                else np.eye(len(data.labels), dtype=np.bool_)
            ),
        )

    def sampling(self, options: TaskOptions) -> tuple[Sampling, float]:
        """Every row once an epoch."""
        return "none", 0.0

    def collate(self, data: TokenizedRows, rows: Sequence[int], seq: int) -> Tensor:
        """(rows, 1 + labels) int64: the number of each row, and which labels it has."""
        numbers = np.asarray(rows, np.int64)[:, None]
        return torch.from_numpy(np.hstack([numbers, data.labels[list(rows)].astype(np.int64)]))

    def held_out_loss(
        self, loss: LossFunction, outputs: Sequence[Float32Array], held_out: TokenizedRows
    ) -> float:
        """Mean over all rows at once, none of them stored."""
        numbers = np.full((len(held_out), 1), NOT_STORED, np.int64)
        targets = np.hstack([numbers, held_out.labels.astype(np.int64)])
        return float(loss(torch.from_numpy(np.stack(outputs)), torch.from_numpy(targets)))

    def score(
        self, options: TaskOptions, data: TaskData, outputs: Sequence[Float32Array]
    ) -> LabelScores:
        """Scores of the held-out rows by the votes of the other ones, their nearest neighbours."""
        own, labels = _own(options), data.validation.labels
        votes = votes_of_others(np.stack(outputs), labels, own.neighbours)
        if own.decision.one_label:
            return Hits.count(labels, most_votes(votes)).scores()
        threshold = np.full(labels.shape[1], best_threshold(votes, labels), np.float32)
        return Hits.count(labels, decide(votes, threshold)).scores()


OBJECTIVE = AlignmentObjective()
ROWS_AT_ONCE = 1024


def votes_of_others(vectors: Float32Array, labels: BoolArray, neighbours: int) -> Float32Array:
    """Share of the nearest other rows that have each label, (rows, labels).

    vectors: (rows, hidden); those of a text in windows are shorter than 1, so all are scaled.
    """
    vectors = unit_vectors(vectors)
    neighbours = min(neighbours, len(vectors) - 1)
    votes = np.zeros(labels.shape, np.float32)
    for first in range(0, len(vectors), ROWS_AT_ONCE):
        places = np.arange(first, min(first + ROWS_AT_ONCE, len(vectors)))
        cosines = vectors[places] @ vectors.T
        cosines[np.arange(len(places)), places] = -np.inf
        nearest = np.argpartition(-cosines, max(neighbours - 1, 0), axis=1)[:, :neighbours]
        votes[places] = labels[nearest].mean(axis=1) if neighbours else 0.0
    return votes


class NearestTrainerKind:
    """See `trainer.kinds.base.TrainerKind`."""

    GOLD_TYPE = pa.list_(pa.string())

    def objective(self, options: TaskOptions) -> AlignmentObjective | None:
        """Alignment, where the config asks for it."""
        return None if _own(options).alignment == "none" else OBJECTIVE

    def head(self, options: TaskOptions, shape: HeadShape) -> Head:
        """A head without references; `finish_head` gives it those."""
        own = _own(options)
        return NearestHead(
            _vectors(own, shape.hidden),
            shape.labels,
            neighbours=own.neighbours,
            trained=own.alignment != "none",
        )

    def start_head(
        self, head: Head, options: TaskOptions, data: TaskData, encoder: LoadedEncoder
    ) -> None:
        """Check that there are as many layers, and enough references but not too many."""
        own = _own(options)
        check_layers(own.layers, data, encoder)
        references = len(_distinct(data.train.in_pieces())[0])
        if references <= own.neighbours:
            raise ConfigError(
                f"tasks.{data.task}.neighbours: {own.neighbours} neighbours need more than "
                f"{references} different training texts"
            )
        if references > MOST_REFERENCES:
            raise ConfigError(
                f"tasks.{data.task}: {references:,} different training texts are too many "
                f"references; {MOST_REFERENCES:,} are allowed, because their vectors are part of "
                "the file",
                hint="take fewer rows, or train a task with a head of its own on them",
            )
        stored = {
            "memory": len(data.labels),
            "mixed_memory": len(data.labels),
            "datapoint_memory": len(data.train),
        }.get(own.alignment, 0)
        if stored and PartialState().num_processes > 1:
            raise ConfigError(
                f"tasks.{data.task}.alignment: {own.alignment!r} stores vectors in one process, "
                "and there are several",
                hint='train in one process, or take "batch"',
            )
        assert isinstance(head, NearestHead)
        head.memory = torch.zeros(stored, head.memory.shape[1])

    def finish_head(
        self, head: Head, options: TaskOptions, data: TaskData, run_head: RunHead
    ) -> FinishedHead:
        """Take the vectors of the training texts, and their labels.

        A text that is there several times is one reference, with the mean of its labels. Each
        window of a long text is a reference of its own: it is compared with windows.
        """
        assert isinstance(head, NearestHead)
        train = data.train.in_pieces()
        first, reference_of_row = _distinct(train)
        vectors = run_head(_vectors(_own(options), head.vectors.shape[1]), train)
        chosen = np.stack([vectors[row] for row in first])
        labels = _mean_by(train.labels.astype(np.float32), reference_of_row)
        head.set_references(torch.from_numpy(chosen), torch.from_numpy(labels))
        return FinishedHead(changed=True)

    def reference_ids(self, data: TaskData) -> Sequence[str]:
        """Of each reference the id of its first row, shortened if it is long."""
        train = data.train.in_pieces()
        return [short_name(train.ids[row]) for row in _distinct(train)[0]]


def _distinct(rows: TokenizedRows) -> tuple[list[int], Int64Array]:
    """First row of each different text, and for each row the number of its text."""
    numbers: dict[bytes, int] = {}
    first: list[int] = []
    of_row: list[int] = []
    for row, text in enumerate(rows.texts):
        key = text.ids.tobytes()
        if key not in numbers:
            numbers[key] = len(first)
            first.append(row)
        of_row.append(numbers[key])
    return first, np.array(of_row, np.int64)


def _mean_by(values: Float32Array, groups: Int64Array) -> Float32Array:
    """(rows, labels) to (groups, labels), the mean of the rows of each group."""
    sums = np.zeros((int(groups.max(initial=-1)) + 1, values.shape[1]), np.float32)
    np.add.at(sums, groups, values)
    return np.asarray(sums / np.bincount(groups)[:, None], np.float32)


def _vectors(options: NearestOptions, hidden: int) -> EmbeddingHead:
    return EmbeddingHead(
        hidden, pooling=options.pooling, layers=options.layers, dimension=hidden, normalize=True
    )


def _own(options: TaskOptions) -> NearestOptions:
    assert isinstance(options, NearestOptions)
    return options
