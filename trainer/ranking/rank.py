"""Ranking encoders by what their vectors say of labels without any training."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

import numpy as np

from schemas.arrays import BoolArray
from schemas.config.models import DataConfig, TaskConfig
from schemas.decision.metrics import Hits
from schemas.errors import DataError, UsageError
from schemas.kinds import KINDS
from schemas.tasks.task import label_matrix
from schemas.text.model_text import ModelText, TextSpec, model_text
from trainer.data.usable import label_names, read_usable
from trainer.ranking.neighbours import decide_by_neighbours, has_one_label
from trainer.ranking.report import RankedEncoder, Ranking
from trainer.ranking.vectors import pooled_vectors

log = logging.getLogger(__name__)


def rank_encoders(
    data: DataConfig, encoders: Sequence[str], *, neighbours: int = 5, max_tokens: int = 128
) -> Ranking:
    """Label each training row by the nearest others, with each encoder as it is.

    A text that is there several times is compared once. encoders: sources as in the config.
    max_tokens: read of a text.
    Raises DataError, EncoderError, or UsageError for too few rows.
    """
    texts, labels = _read(data, max_tokens)
    if len(texts) <= neighbours:
        raise UsageError(
            f"{data.path}: {len(texts)} different texts; {neighbours} neighbours need more",
            hint="fewer --neighbours, or more rows",
        )
    ranked = [
        one
        for source in dict.fromkeys(encoders)
        for one in _rank(source, texts, labels, neighbours, max_tokens)
    ]
    return Ranking(
        data=data.path.name,
        rows=len(texts),
        labels=labels.shape[1],
        neighbours=neighbours,
        max_tokens=max_tokens,
        encoders=tuple(sorted(ranked, key=lambda one: one.score, reverse=True)),
    )


def _read(data: DataConfig, max_tokens: int) -> tuple[list[ModelText], BoolArray]:
    """Different texts of the training rows, and their labels."""
    task = TaskConfig(data=(data,))
    kind, rows = KINDS[task.kind], read_usable(data, task, "train")
    spec = TextSpec(title=task.title)
    texts = [model_text(article, spec, max_tokens=max_tokens) for article in rows.articles]
    first_rows: dict[str, int] = {}
    for row, text in enumerate(texts):
        first_rows.setdefault(text.text, row)
    first = list(first_rows.values())
    if len(first) < len(texts):
        log.info("%d rows have the text of another row and are left out", len(texts) - len(first))
    names = label_names(rows.take(first), kind)
    labels = tuple(sorted({label for of_row in names for label in of_row}))
    if not labels:
        raise DataError(f"{data.path}: no row has a label", hint="name --labels-column")
    return [texts[row] for row in first], label_matrix(names, labels, source=rows.source)


def _rank(
    source: str, texts: Sequence[ModelText], labels: BoolArray, neighbours: int, max_tokens: int
) -> Iterator[RankedEncoder]:
    log.info("%s: encoding %d texts", source, len(texts))
    pooled = pooled_vectors(source, texts, max_tokens=max_tokens)
    for pooling, vectors in pooled.vectors.items():
        decided = decide_by_neighbours(vectors, labels, neighbours)
        scores = Hits.count(labels, decided).scores()
        yield RankedEncoder(
            encoder=source,
            pooling=pooling,
            accuracy=float(np.mean((labels & decided).any(axis=1)))
            if has_one_label(labels)
            else None,
            micro_f1=scores.micro_f1,
            macro_f1=scores.macro_f1,
            parameters=pooled.parameters,
            texts_per_s=len(texts) / max(pooled.seconds, 1e-9),
        )
