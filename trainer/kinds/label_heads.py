"""What kinds share whose heads have an output a label, and start from names and frequencies."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from schemas.arrays import Float32Array
from schemas.kinds.base import OutputSpec
from schemas.kinds.multiclass import MulticlassOptions
from schemas.kinds.multilabel import MultilabelOptions
from schemas.tasks.sections import TaskOptions
from schemas.text.tokens import pad
from trainer.data.sampling import row_counts
from trainer.data.task_data import TaskData
from trainer.kinds.base import FinishedHead, HeadShape, RunHead
from trainer.model.encoders import LoadedEncoder
from trainer.model.heads import HEADS, Head, LabelAttentionHead, MeanHead
from trainer.model.label_names import label_words, name_vectors
from trainer.model.lexical import fit, term_weight
from trainer.model.windows import outputs_of_texts

log = logging.getLogger(__name__)

START_ROWS = 32
"""Training rows whose outputs are averaged before training."""
START_PIECES_AT_ONCE = 8


class LabelHeadKind:
    """The part of `trainer.kinds.base.TrainerKind` that is about heads."""

    def head(self, options: TaskOptions, shape: HeadShape) -> Head:
        """The head that the config names."""
        return HEADS[_own(options).head](
            shape.hidden, shape.labels, dropout=shape.dropout, markers=shape.markers
        )

    def start_head(
        self, head: Head, options: TaskOptions, data: TaskData, encoder: LoadedEncoder
    ) -> None:
        """Start from the frequency of the labels, and label attention from their names, too."""
        own = _own(options)
        if own.head_start == "names" and isinstance(head, LabelAttentionHead):
            words = label_words(data.task, data.labels, own.label_names)
            head.start_from_names(name_vectors(encoder, words))
        assert isinstance(head, MeanHead)
        outputs = _initial_outputs(head, data, encoder)
        shares = torch.from_numpy(self.share_logits(*_drawn(data, own)))
        head.start_from_shares(shares, outputs)

    def share_logits(self, positives: Float32Array, rows: int) -> Float32Array:
        """Logits of the frequency of labels that so many of the rows have; both (labels,)."""
        raise NotImplementedError

    def finish_head(
        self, head: Head, options: TaskOptions, data: TaskData, run_head: RunHead
    ) -> FinishedHead:
        """Add what the tokens say by themselves, as much of it as the held-out rows want.

        How much is settled by a term that has not seen these rows; then it learns from them, too.
        """
        if not _own(options).lexical_features:
            return FinishedHead()
        term = head.lexical
        assert term is not None
        term.clear()  # left over where a run is finished a second time
        parts = (data.train, data.validation)
        texts = [[text.ids for text in rows.texts] for rows in parts]
        gold = [rows.labels for rows in parts]
        alone = np.stack(run_head(head, data.validation))
        fit(term, texts[0], gold[0])
        added = np.stack(run_head(head, data.validation)) - alone
        weight = term_weight(self.comparable(alone), added, gold[1])
        fit(term, texts[0] + texts[1], np.concatenate(gold))
        term.scale(weight)
        corrections = alone + weight * added - np.stack(run_head(head, data.validation))
        log.info(
            "task %r: %d lexical features added with weight %.2f",
            data.task,
            term.feature_count,
            weight,
        )
        return FinishedHead(changed=True, corrections=list(corrections))

    def comparable(self, outputs: Float32Array) -> Float32Array:
        """Outputs of the head whose differences between rows mean something; (rows, labels)."""
        return outputs

    def reference_ids(self, data: TaskData) -> Sequence[str]:
        """None."""
        return ()


def _drawn(data: TaskData, own: MultilabelOptions | MulticlassOptions) -> tuple[Float32Array, int]:
    """Rows of each label, (labels,), and all rows, that an epoch draws."""
    labels, rng = data.train.labels, np.random.default_rng(0)
    counts = row_counts(labels, own.sampling, threshold=own.sampling_threshold, rng=rng)
    return (counts @ labels).astype(np.float32), int(counts.sum())


@torch.no_grad()
def _initial_outputs(head: Head, data: TaskData, encoder: LoadedEncoder) -> Tensor:
    """Outputs of a head for some training rows, as the encoder is; (rows, labels)."""
    texts = data.train.texts
    rows = np.linspace(0, len(texts) - 1, min(START_ROWS, len(texts))).astype(int)
    some = [texts[row] for row in rows]
    pieces = [piece.ids for text in some for piece in text.pieces]
    outputs = []
    modules = [module for module in (encoder.model, head) if module.training]
    for module in modules:
        module.eval()
    for first in range(0, len(pieces), START_PIECES_AT_ONCE):
        ids = pieces[first : first + START_PIECES_AT_ONCE]
        inputs = pad(ids, rows=len(ids), seq=max(map(len, ids)), pad_id=encoder.pad_id)
        input_ids, attention_mask = map(torch.from_numpy, inputs)
        states = encoder.model(input_ids=input_ids, attention_mask=attention_mask)
        outputs.append(head(states.last_hidden_state, attention_mask, input_ids))
    for module in modules:
        module.train()
    output = OutputSpec("logits", head.width).in_windows(data.windows)
    return outputs_of_texts(torch.cat(outputs), some, output)


def _own(options: TaskOptions) -> MultilabelOptions | MulticlassOptions:
    assert isinstance(options, MultilabelOptions | MulticlassOptions)
    return options
