"""Nearest: the training texts become references over the encoder as it is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import torch

from schemas.arrays import Float32Array, Int64Array
from schemas.errors import ConfigError
from schemas.kinds.nearest import MOST_REFERENCES, NearestOptions
from schemas.tasks.sections import TaskOptions
from schemas.text.short_names import short_name
from trainer.data.task_data import TaskData, TokenizedRows
from trainer.kinds.base import FinishedHead, RunHead
from trainer.kinds.embedding import check_layers
from trainer.model.encoders import LoadedEncoder
from trainer.model.heads import EmbeddingHead, Head
from trainer.model.nearest_head import NearestHead


class NearestTrainerKind:
    """See `trainer.kinds.base.TrainerKind`."""

    GOLD_TYPE = pa.list_(pa.string())
    objective = None

    def head(self, options: TaskOptions, *, hidden: int, labels: int, dropout: float) -> Head:
        """A head without references; `finish_head` gives it those."""
        own = _own(options)
        return NearestHead(_vectors(own, hidden), labels, neighbours=own.neighbours)

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
