"""Token: heads and losses of tasks that find spans of words."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from schemas.arrays import Float32Array, Int64Array
from schemas.decision.spans import (
    IGNORED,
    Decoding,
    SpanHits,
    SpanScores,
    number_of_labels,
    number_of_tags,
    places_of,
    tag_spans,
    word_tags,
)
from schemas.kinds.token import TokenOptions
from schemas.tables import END, LABEL, START
from schemas.tasks.sections import Sampling, TaskOptions
from schemas.text.tokens import TokenizedText
from trainer.data.task_data import TaskData, TokenizedRows
from trainer.kinds.base import FinishedHead, HeadShape, LossFunction, RunHead
from trainer.losses.softmax import make_class_loss
from trainer.model.encoders import LoadedEncoder
from trainer.model.heads import Head, TokenHead

SPAN_TYPE = pa.struct(
    [pa.field(START, pa.int64()), pa.field(END, pa.int64()), pa.field(LABEL, pa.string())]
)


class TokenObjective:
    """See `trainer.kinds.base.Objective`."""

    def check_loss(self, options: TaskOptions) -> None:
        """Build the loss for three tags that nothing is known of."""
        loss = _own(options).loss
        make_class_loss(loss.name, counts=np.ones(3, np.int64), **loss.parameters)

    def loss_name(self, options: TaskOptions) -> str:
        """A key of `trainer.losses.softmax.CLASS_LOSSES`."""
        return _own(options).loss.name

    def loss(self, options: TaskOptions, data: TaskData, head: Head) -> LossFunction:
        """Loss for the counts of the tags of training words."""
        loss = _own(options).loss
        counts = np.zeros(number_of_tags(len(data.labels)), np.int64)
        for row in range(len(data.train)):
            tags = _tags(data.train, row)
            counts += np.bincount(tags[tags != IGNORED], minlength=len(counts))
        return make_class_loss(loss.name, counts=counts, **loss.parameters)

    def sampling(self, options: TaskOptions) -> tuple[Sampling, float]:
        """Every row once."""
        return "none", 0.0

    def collate(self, data: TokenizedRows, rows: Sequence[int], seq: int) -> Tensor:
        """Tags of tokens, (rows, seq) int64, IGNORED for padding and pieces inside of words."""
        tags = np.full((len(rows), seq), IGNORED, np.int64)
        for place, row in enumerate(rows):
            of_row = _tags(data, row)
            tags[place, : len(of_row)] = of_row
        return torch.from_numpy(tags)

    def held_out_loss(
        self, loss: LossFunction, outputs: Sequence[Float32Array], held_out: TokenizedRows
    ) -> float:
        """Mean over all words."""
        tags = np.concatenate([_tags(held_out, row) for row in range(len(held_out))])
        return float(loss(torch.from_numpy(np.concatenate(outputs)), torch.from_numpy(tags)))

    def score(
        self, options: TaskOptions, data: TaskData, outputs: Sequence[Float32Array]
    ) -> SpanScores:
        """Scores of the spans that the config's decoding finds."""
        labels, decoding = number_of_labels(outputs[0].shape[1]), _own(options).decision.decoding
        held_out = data.validation
        decided = [
            _spans(output, text, decoding)
            for output, text in zip(outputs, held_out.texts, strict=True)
        ]
        return SpanHits.count(list(held_out.targets), decided, labels).scores()


OBJECTIVE = TokenObjective()


class TokenTrainerKind:
    """See `trainer.kinds.base.TrainerKind`."""

    GOLD_TYPE = pa.list_(SPAN_TYPE)

    def objective(self, options: TaskOptions) -> TokenObjective:
        """The one of the kind."""
        return OBJECTIVE

    def head(self, options: TaskOptions, shape: HeadShape) -> Head:
        """A linear layer over each token."""
        return TokenHead(shape.hidden, number_of_tags(shape.labels), dropout=shape.dropout)

    def start_head(
        self, head: Head, options: TaskOptions, data: TaskData, encoder: LoadedEncoder
    ) -> None:
        """Random weights."""

    def finish_head(
        self, head: Head, options: TaskOptions, data: TaskData, run_head: RunHead
    ) -> FinishedHead:
        """Nothing depends on the trained encoder."""
        return FinishedHead()

    def reference_ids(self, data: TaskData) -> Sequence[str]:
        """None."""
        return ()


def _tags(data: TokenizedRows, row: int) -> Int64Array:
    words = data.texts[row].words
    assert words is not None
    return word_tags(words, data.targets[row])


def _spans(output: Float32Array, text: TokenizedText, decoding: Decoding) -> Int64Array:
    """(spans, 3) of a text. output: logits of its tokens, (tokens, tags)."""
    words = text.words
    assert words is not None
    return places_of(words, (span[:3] for span in tag_spans(output[words.tokens], decoding)))


def _own(options: TaskOptions) -> TokenOptions:
    assert isinstance(options, TokenOptions)
    return options
