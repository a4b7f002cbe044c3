"""From labelled files to token ids and label columns."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from schemas.config.models import TrainingRun
from schemas.errors import DataError, listing
from schemas.kinds import AnyKind
from schemas.tasks.labels import refuse_lookalikes
from schemas.tasks.task import label_matrix
from schemas.text.tokens import TextTokenizer
from trainer.data.partition import SplitRows, model_texts, split_rows
from trainer.data.readers.rows import LabelledRows, concatenate
from trainer.data.spec import TaskSpec
from trainer.data.task_data import FoldTest, TaskData, TokenizedRows
from trainer.data.usable import label_names, label_uses

log = logging.getLogger(__name__)


def load_tasks(config: TrainingRun, tokenizer: TextTokenizer) -> dict[str, TaskData]:
    """Read, split and tokenize the data of every task; without the fold to be tested on.

    Labels are those of the training and held-out rows with the parents that they imply, or those
    that the config lists. A listed label without any training row is an error: it would be a column
    that can never be right. Within a data set, rows of one group and rows of the same model text
    are never apart, and tasks that are labelled on the same rows hold out the same of them.
    Raises DataError.
    """
    specs = _specs(config)
    split = split_rows(specs)
    return {spec.name: _task_data(spec, split[spec.name], tokenizer) for spec in specs}


def load_rows(config: TrainingRun, task: str) -> tuple[LabelledRows, LabelledRows]:
    """The training and the held-out rows of a task as they were read, for models of other kinds.

    Raises DataError.
    """
    parts = split_rows(_specs(config))[task]
    return concatenate([one.train for one in parts]), concatenate([one.heldout for one in parts])


def load_fold_tests(
    config: TrainingRun, labels: Mapping[str, Sequence[str]], tokenizer: TextTokenizer
) -> dict[str, FoldTest]:
    """Read and tokenize the rows of the fold to be tested on.

    Nothing else reads these rows; training never calls it. labels: names in column order, by task.
    Raises DataError.
    """
    specs = _specs(config)
    split = split_rows(specs)
    tests = {}
    for spec in specs:
        parts = [one.tested for one in split[spec.name]]
        rows = _tokenize(parts, tuple(labels[spec.name]), spec, tokenizer)
        tests[spec.name] = FoldTest(rows, concatenate(parts))
    return tests


def _specs(config: TrainingRun) -> list[TaskSpec]:
    return [TaskSpec.of(config, name) for name in config.tasks]


def _task_data(spec: TaskSpec, parts: Sequence[SplitRows], tokenizer: TextTokenizer) -> TaskData:
    """Data of one task; labels look alike in none and between none of its data sets."""
    rows = [rows for one in parts for rows in (one.train, one.heldout)]
    refuse_lookalikes(label_uses(rows, spec.kind), spec.task.labels or ())
    labels = spec.task.labels or _labels_of_data(rows, spec.kind)
    heldout_parts = [one.heldout for one in parts]
    train = _tokenize([one.train for one in parts], labels, spec, tokenizer)
    validation = _tokenize(heldout_parts, labels, spec, tokenizer)
    heldout = concatenate(heldout_parts)
    task_data = TaskData(spec.name, labels, spec.text, spec.windows, train, validation, heldout)
    _check_seen(task_data)
    return task_data


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
    tokenized = list(tokenizer.encode(texts, spec.text, spec.windows))
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
