"""From labelled files to token ids and label columns, one task at a time."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence

import numpy as np

from schemas.errors import DataError, listing
from schemas.kinds import AnyKind
from schemas.tasks.labels import refuse_lookalikes
from schemas.tasks.task import label_matrix
from schemas.text.tokens import TextTokenizer
from trainer.data.partition import fold_rows, model_texts, train_and_heldout
from trainer.data.readers.rows import LabelledRows, concatenate
from trainer.data.spec import TaskSpec
from trainer.data.task_data import FoldTest, TaskData, TokenizedRows
from trainer.data.usable import label_names, label_uses, read_usable

log = logging.getLogger(__name__)


def load_task(spec: TaskSpec, tokenizer: TextTokenizer) -> TaskData:
    """Read, split and tokenize the data of one task; without the fold to be tested on.

    Labels are those of the training and held-out rows, or those that the config lists. A listed
    label without any training row is an error: it would be a column that can never be right.
    Within a data set, rows of one group and rows of the same model text are never apart.
    Raises DataError.
    """
    parts = _read_parts(spec)
    labels = spec.task.labels or _labels_of_data(
        [rows for both in parts for rows in both], spec.kind
    )
    train_parts, heldout_parts = ([both[side] for both in parts] for side in (0, 1))
    train = _tokenize(train_parts, labels, spec, tokenizer)
    validation = _tokenize(heldout_parts, labels, spec, tokenizer)
    heldout = concatenate(heldout_parts)
    task_data = TaskData(spec.name, labels, spec.text, train, validation, heldout)
    _check_seen(task_data)
    return task_data


def load_rows(spec: TaskSpec) -> tuple[LabelledRows, LabelledRows]:
    """The training and the held-out rows of a task as they were read, for models of other kinds.

    Raises DataError.
    """
    parts = _read_parts(spec)
    train, heldout = (concatenate([both[side] for both in parts]) for side in (0, 1))
    return train, heldout


def load_fold_test(spec: TaskSpec, labels: Sequence[str], tokenizer: TextTokenizer) -> FoldTest:
    """Read and tokenize the rows of the fold to be tested on.

    Nothing else reads these rows; training never calls it. labels: names in column order.
    Raises DataError.
    """
    parts = []
    for data in spec.task.data:
        rows = read_usable(data, spec.task, "train")
        parts.append(rows.take(fold_rows(rows, data, spec).tolist()))
    return FoldTest(_tokenize(parts, tuple(labels), spec, tokenizer), concatenate(parts))


def _read_parts(spec: TaskSpec) -> list[tuple[LabelledRows, LabelledRows]]:
    """Training and held-out rows of each data set; labels look alike in none and between none."""
    parts = [train_and_heldout(data, spec) for data in spec.task.data]
    rows = [rows for both in parts for rows in both]
    refuse_lookalikes(label_uses(rows, spec.kind), spec.task.labels or ())
    return parts


def _labels_of_data(parts: Sequence[LabelledRows], kind: AnyKind) -> tuple[str, ...]:
    """Labels that occur, the most frequent first; none for a kind without labels."""
    if not kind.HAS_LABELS:
        return ()
    rows_labels = (labels for rows in parts for labels in label_names(rows, kind))
    counts = Counter(label for labels in rows_labels for label in labels)
    if not counts:
        raise DataError(
            f"{parts[0].source}: no row has a label", hint="check labels_column in the config"
        )
    return tuple(sorted(counts, key=lambda label: (-counts[label], label)))


def _tokenize(
    parts: Sequence[LabelledRows],
    labels: tuple[str, ...],
    spec: TaskSpec,
    tokenizer: TextTokenizer,
) -> TokenizedRows:
    texts = [text for rows in parts for text in model_texts(rows, spec)]
    kind = spec.kind
    matrices = [
        label_matrix(label_names(rows, kind), labels, source=rows.source, row_names=rows.row_names)
        for rows in parts
    ]
    gold = [value for rows in parts for value in rows.gold]
    presence = np.concatenate(matrices)
    targets = kind.encode(gold, labels)
    is_presence = isinstance(targets, np.ndarray) and np.array_equal(targets, presence)
    tokenized = list(tokenizer.encode(texts, spec.text.truncation))
    ids = [one for rows in parts for one in rows.ids]
    return TokenizedRows(tokenized, presence, presence if is_presence else targets, ids)


def _check_seen(data: TaskData) -> None:
    unseen = [label for label, count in zip(data.labels, data.positives, strict=True) if not count]
    if unseen:
        raise DataError(
            f"task {data.task!r}: {len(unseen)} labels without any training row: {listing(unseen)}",
            hint="remove them from `labels`, or add rows that have them",
        )
    untested = data.validation.labels.sum(axis=0) == 0
    if untested.any():
        names = [label for label, none in zip(data.labels, untested, strict=True) if none]
        log.warning(
            "task %r: %d labels without a held-out row take the threshold of the whole task: %s",
            data.task,
            len(names),
            listing(names),
        )
