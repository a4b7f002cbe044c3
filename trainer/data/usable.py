"""Labelled rows that can be used: with text, and with labels of the task."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain

from schemas.config.models import DataConfig, TaskConfig
from schemas.errors import DataError
from schemas.kinds import KINDS, AnyKind
from schemas.tasks.labels import LabelUse, count_labels, label_warnings, refuse_unusable_labels
from schemas.tasks.parents import parents_of
from schemas.tasks.task import label_matrix
from schemas.text.model_text import is_blank
from trainer.data.readers import Part, read_part
from trainer.data.readers.rows import LabelledRows

log = logging.getLogger(__name__)


def read_usable(data: DataConfig, task: TaskConfig, part: Part) -> LabelledRows:
    """Read the rows of one part that have text and labels of the task. Raises DataError.

    Their gold values are complete: whatever is made of them also counts the labels that they imply.
    """
    rows = read_part(data, task, part)
    _check_labels(rows, task)
    usable = _usable(rows, data, task)
    if not len(usable):
        raise DataError(
            f"{data.path}: no rows to {'train' if part == 'train' else 'validate'} on; {len(rows)} "
            "were read",
            hint="check split_column, train_value, validation_value and labels in the config",
        )
    kind, parents = KINDS[task.kind], parents_of(task)
    return replace(usable, gold=[kind.complete(value, parents) for value in usable.gold])


def _check_labels(rows: LabelledRows, task: TaskConfig) -> None:
    """Refuse labels that are lists written as text or only look alike; log what is odd.

    A label that looks like a listed one is refused also where other labels are ignored.
    """
    uses, listed = label_uses([rows], KINDS[task.kind]), task.labels or ()
    refuse_unusable_labels(uses, listed)
    for line in label_warnings(uses, listed):
        log.warning("%s: %s", rows.source, line)


def _usable(rows: LabelledRows, data: DataConfig, task: TaskConfig) -> LabelledRows:
    """Drop rows without text; apply the rule for labels that the task does not list."""
    keep = [row for row, article in enumerate(rows.articles) if not is_blank(article.text)]
    if len(keep) < len(rows):
        log.warning("%s: %d rows without text are left out", data.path, len(rows) - len(keep))
    rows = rows.take(keep)
    if task.labels is None:
        return rows
    kind = KINDS[task.kind]
    if data.other_labels == "error":
        names = label_names(rows, kind)
        label_matrix(names, task.labels, source=rows.source, row_names=rows.row_names)
        return rows
    gold = [kind.only_known(value, frozenset(task.labels)) for value in rows.gold]
    usable = [row for row, value in enumerate(gold) if value is not None]
    return replace(rows, gold=gold).take(usable)


def label_names(rows: LabelledRows, kind: AnyKind) -> list[Sequence[str]]:
    """Labels that the gold value of each row names."""
    return [kind.gold_labels(gold) for gold in rows.gold]


def label_uses(parts: Sequence[LabelledRows], kind: AnyKind) -> dict[str, LabelUse]:
    """Labels of some rows, with counts and first rows."""
    return count_labels(
        chain.from_iterable(label_names(rows, kind) for rows in parts),
        chain.from_iterable(rows.row_names for rows in parts),
    )
