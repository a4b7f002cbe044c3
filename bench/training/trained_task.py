"""One task of a checkpoint, run by torch in fp32."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from accelerate import Accelerator

from exporter.kinds import EXPORTER_KINDS
from exporter.kinds.base import LabelledOutputs
from schemas.arrays import Float32Array
from schemas.kinds import KINDS
from schemas.text.model_text import Article, model_text
from schemas.text.tokens import TextTokenizer, TokenizedText
from trainer.checkpoint.reader import Checkpoint
from trainer.data.task_data import TokenizedRows
from trainer.evaluation.held_out import predict


class TrainedTask:
    """A task of a checkpoint that reads texts without windows."""

    def __init__(self, checkpoint: Checkpoint, name: str) -> None:
        self._checkpoint, self._name = checkpoint, name
        self.facts = checkpoint.info.tasks[name]
        self.kind = KINDS[self.facts.kind]
        self._max_tokens = checkpoint.info.max_tokens
        self._tokenizer = TextTokenizer(checkpoint.tokenizer, max_tokens=self._max_tokens)

    def tokenize(self, articles: Sequence[Article]) -> list[TokenizedText]:
        """What the model reads of articles."""
        texts = [
            model_text(
                article,
                self.facts.text,
                max_tokens=self._max_tokens,
                keep_source=self.kind.NEEDS_WORDS,
            )
            for article in articles
        ]
        return list(self._tokenizer.encode(texts))

    def run(self, texts: Sequence[TokenizedText]) -> list[Float32Array]:
        """Output of each text."""
        no_labels = np.zeros((len(texts), len(self.facts.labels)), np.bool_)
        path = self._checkpoint.model.path(self._name)
        return predict(
            path,
            self.kind.output(path.head.width),
            TokenizedRows(texts, no_labels, no_labels, [""] * len(texts)),
            pad_id=self._checkpoint.info.pad_id,
            max_tokens=self._max_tokens,
            bf16=False,
            accelerator=Accelerator(),
        )

    def heldout(self) -> LabelledOutputs:
        """Held-out texts with their outputs and gold values, to fit a decision to."""
        articles, gold = self._checkpoint.heldout(self._name)
        texts = self.tokenize(articles)
        outputs = self.run(texts)
        encoded = self.kind.encode(gold, self.facts.labels)
        return LabelledOutputs(
            self.facts.labels,
            texts,
            outputs,
            EXPORTER_KINDS[self.facts.kind].targets(encoded, outputs),
            corrections=self._checkpoint.corrections(self._name),
        )
