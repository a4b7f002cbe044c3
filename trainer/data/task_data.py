"""Tokenized rows of a task: training, held-out and test rows."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from schemas.arrays import BoolArray
from schemas.kinds.base import Targets
from schemas.text.model_text import TextSpec
from schemas.text.tokens import TokenizedText
from schemas.text.windows import WindowSpec
from trainer.data.readers.rows import LabelledRows


@dataclass(frozen=True)
class TokenizedRows:
    """Rows ready for the model.

    texts: token ids of each row. labels: (rows, labels) bool, labels that occur in a row's gold
    value. targets: gold values as numbers, one array a row (`Kind.encode`). ids: name of each row
    for users of the model.
    """

    texts: Sequence[TokenizedText]
    labels: BoolArray
    targets: Targets
    ids: Sequence[str]

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def lengths(self) -> list[int]:
        """Tokens of each row."""
        return [len(text.ids) for text in self.texts]

    def in_pieces(self) -> TokenizedRows:
        """A row for each window of a text, or for the text, with the labels of the text."""
        pieces = [text.pieces for text in self.texts]
        rows = np.repeat(np.arange(len(pieces)), [len(of_text) for of_text in pieces])
        targets = self.targets
        return TokenizedRows(
            [piece for of_text in pieces for piece in of_text],
            self.labels[rows],
            targets[rows]
            if isinstance(targets, np.ndarray)
            else [targets[row] for row in rows.tolist()],
            [self.ids[row] for row in rows.tolist()],
        )


@dataclass(frozen=True)
class TaskData:
    """Training and held-out rows of one task.

    labels: ordered label names. windows: in which long texts are read, if any.
    heldout: the articles behind `validation`, for the exporter.
    """

    task: str
    labels: tuple[str, ...]
    spec: TextSpec
    windows: WindowSpec | None
    train: TokenizedRows
    validation: TokenizedRows
    heldout: LabelledRows

    @property
    def positives(self) -> tuple[int, ...]:
        """Training rows of each label."""
        return tuple(int(count) for count in self.train.labels.sum(axis=0))

    def sha256(self) -> str:
        """Hash of every token and label that training or validation sees."""
        digest = hashlib.sha256(repr((self.task, self.labels)).encode())
        for rows in (self.train, self.validation):
            for text in rows.texts:
                digest.update(text.ids.tobytes())
                digest.update(b"|")
            digest.update(np.packbits(rows.labels).tobytes())
            if rows.targets is not rows.labels:
                for target in rows.targets:
                    digest.update(target.tobytes())
        return digest.hexdigest()


@dataclass(frozen=True)
class FoldTest:
    """Rows of one task that a fold's training never saw.

    labelled: the same rows as they were read, with domains and languages where the data has them.
    """

    rows: TokenizedRows
    labelled: LabelledRows
