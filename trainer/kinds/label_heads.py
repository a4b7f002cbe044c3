"""What kinds share whose heads have an output a label and may start from the labels' names."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
import torch

from schemas.arrays import Float32Array
from schemas.kinds.multiclass import MulticlassOptions
from schemas.kinds.multilabel import MultilabelOptions
from schemas.tasks.sections import TaskOptions
from trainer.data.task_data import TaskData
from trainer.kinds.base import FinishedHead, HeadShape, RunHead
from trainer.model.encoders import LoadedEncoder
from trainer.model.heads import HEADS, Head, LabelAttentionHead, MeanHead
from trainer.model.label_names import label_words, name_vectors
from trainer.model.lexical import fit, term_weight

log = logging.getLogger(__name__)


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
        """Start from how frequent the labels are, and a label attention head from their names."""
        own = _own(options)
        assert isinstance(head, MeanHead)
        if own.sampling != "class_aware":  # which makes all labels equally frequent
            head.start_from_shares(torch.from_numpy(self.share_logits(data)))
        if own.head_start == "names" and isinstance(head, LabelAttentionHead):
            words = label_words(data.task, data.labels, own.label_names)
            head.start_from_names(name_vectors(encoder, words))

    def share_logits(self, data: TaskData) -> Float32Array:
        """Logits, (labels,), of how frequent each label is in the training rows."""
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


def _own(options: TaskOptions) -> MultilabelOptions | MulticlassOptions:
    assert isinstance(options, MultilabelOptions | MulticlassOptions)
    return options
