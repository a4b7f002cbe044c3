"""From labelled files to token ids and label columns, one task at a time."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from schemas.config import DataConfig, TaskConfig, TrainingRun
from schemas.errors import DataError, listing
from schemas.tasks import BoolArray, label_matrix
from schemas.text import Article, ModelText, TextSpec, is_blank, model_text
from schemas.tokens import TextTokenizer, TokenisedText
from trainer.readers import Part, read_part
from trainer.readers.rows import LabelledRows
from trainer.splits import stratified_split

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TokenisedRows:
    """Rows ready for the model.

    texts: token ids of each row. labels: (rows, labels) bool.
    """

    texts: Sequence[TokenisedText]
    labels: BoolArray

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def lengths(self) -> list[int]:
        """Tokens of each row."""
        return [len(text.ids) for text in self.texts]


@dataclass(frozen=True)
class TaskData:
    """Training and held-out rows of one task.

    labels: ordered label names. heldout: the articles behind `validation`, for the exporter.
    """

    task: str
    labels: tuple[str, ...]
    spec: TextSpec
    train: TokenisedRows
    validation: TokenisedRows
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
        return digest.hexdigest()


def load_task(name: str, config: TrainingRun, tokenizer: TextTokenizer) -> TaskData:
    """Read, split and tokenise the data of one task.

    Labels are those of the training and held-out rows, or those that the config lists. A listed
    label without any training row is an error: it would be a column that can never be right.
    Raises DataError.
    """
    task = config.tasks[name]
    spec = TextSpec(title=task.title, entity_markers=task.entity_markers)
    parts = [_read_and_split(data, task, seed=config.seed) for data in task.data]
    labels = task.labels or _labels_found([rows for both in parts for rows in both])
    train_parts, heldout_parts = ([both[side] for both in parts] for side in (0, 1))
    max_tokens = config.encoder.max_tokens
    train = _tokenise(train_parts, labels, spec, tokenizer, max_tokens)
    heldout = _concatenate(heldout_parts)
    validation = _tokenise(heldout_parts, labels, spec, tokenizer, max_tokens)
    found = TaskData(name, labels, spec, train, validation, heldout)
    _check_seen(found)
    return found


def _read_and_split(
    data: DataConfig, task: TaskConfig, *, seed: int
) -> tuple[LabelledRows, LabelledRows]:
    rows = _read_usable(data, task, "train")
    if data.validation_value is not None:
        return rows, _read_usable(data, task, "validation")
    names = sorted({label for labels in rows.gold for label in labels})
    matrix = label_matrix(list(rows.gold), tuple(names), source=rows.source)
    share = data.validation_share
    try:
        train, heldout = stratified_split(
            matrix, fractions=(1 - share, share), seed=seed, groups=rows.groups
        )
    except ValueError as error:
        raise DataError(
            f"{data.path}: a share of {share} cannot be held out: {error}",
            hint="more rows, or a validation_value",
        ) from error
    return rows.take(train.tolist()), rows.take(heldout.tolist())


def _read_usable(data: DataConfig, task: TaskConfig, part: Part) -> LabelledRows:
    rows = read_part(data, task, part)
    usable = _usable(rows, data, task)
    if not len(usable):
        raise DataError(
            f"{data.path}: no rows to {'train' if part == 'train' else 'validate'} on; {len(rows)} "
            "were read",
            hint="check split_column, train_value, validation_value and labels in the config",
        )
    return usable


def _usable(rows: LabelledRows, data: DataConfig, task: TaskConfig) -> LabelledRows:
    """Drop rows without text; apply the rule for labels that the task does not list."""
    keep = [row for row, article in enumerate(rows.articles) if not is_blank(article.text)]
    if len(keep) < len(rows):
        log.warning("%s: %d rows without text are left out", data.path, len(rows) - len(keep))
    rows = rows.take(keep)
    if task.labels is None:
        return rows
    if data.other_labels == "error":
        label_matrix(list(rows.gold), task.labels, source=rows.source)
        return rows
    listed = set(task.labels)
    gold = [[label for label in labels if label in listed] for labels in rows.gold]
    kept = [row for row in range(len(rows)) if gold[row] or not rows.gold[row]]
    return LabelledRows(rows.source, rows.articles, gold, rows.groups).take(kept)


def _labels_found(parts: Sequence[LabelledRows]) -> tuple[str, ...]:
    counts = Counter(label for rows in parts for labels in rows.gold for label in labels)
    if not counts:
        raise DataError(
            f"{parts[0].source}: no row has a label", hint="check labels_column in the config"
        )
    if not all(label.strip() for label in counts):
        raise DataError(f"{parts[0].source}: a label is blank", hint="name it, or remove it")
    return tuple(sorted(counts, key=lambda label: (-counts[label], label)))


def _tokenise(
    parts: Sequence[LabelledRows],
    labels: tuple[str, ...],
    spec: TextSpec,
    tokenizer: TextTokenizer,
    max_tokens: int,
) -> TokenisedRows:
    texts = [
        _text_of(article, spec, max_tokens, rows.source, row)
        for rows in parts
        for row, article in enumerate(rows.articles)
    ]
    matrices = [label_matrix(list(rows.gold), labels, source=rows.source) for rows in parts]
    return TokenisedRows(list(tokenizer.encode(texts)), np.concatenate(matrices))


def _text_of(article: Article, spec: TextSpec, max_tokens: int, source: str, row: int) -> ModelText:
    try:
        return model_text(article, spec, max_tokens=max_tokens)
    except ValueError as error:
        start = (article.text or "")[:60]
        raise DataError(
            f"{source}: {error} (row {row} of its part, text {start!r}...)",
            hint="correct the row, or leave it out",
        ) from error


def _concatenate(parts: Sequence[LabelledRows]) -> LabelledRows:
    return LabelledRows(
        source=", ".join(rows.source for rows in parts),
        articles=[article for rows in parts for article in rows.articles],
        gold=[gold for rows in parts for gold in rows.gold],
    )


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
