"""From labelled files to token ids and label columns, one task at a time."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from schemas.arrays import BoolArray, Int64Array
from schemas.config.models import DataConfig, TaskConfig, TrainingRun
from schemas.errors import DataError, listing
from schemas.kinds import KINDS, AnyKind
from schemas.kinds.base import Targets
from schemas.tasks.labels import (
    LabelUse,
    count_labels,
    label_warnings,
    refuse_lookalikes,
    refuse_unusable_labels,
)
from schemas.tasks.task import label_matrix
from schemas.text.model_text import ModelText, TextSpec, is_blank, model_text
from schemas.text.tokens import TextTokenizer, TokenizedText
from trainer.data.readers import Part, read_part
from trainer.data.readers.rows import LabelledRows, concatenate
from trainer.data.splits import stratified_folds, stratified_split

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TokenizedRows:
    """Rows ready for the model.

    texts: token ids of each row. labels: (rows, labels) bool, labels that occur in a row's gold
    value. targets: gold values as numbers, one array a row (`Kind.encode`).
    """

    texts: Sequence[TokenizedText]
    labels: BoolArray
    targets: Targets

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


def load_task(name: str, config: TrainingRun, tokenizer: TextTokenizer) -> TaskData:
    """Read, split and tokenize the data of one task; without the fold that the config leaves out.

    Labels are those of the training and held-out rows, or those that the config lists. A listed
    label without any training row is an error: it would be a column that can never be right.
    Within a data set, rows of one group and rows of the same model text are never apart.
    Raises DataError.
    """
    task = config.tasks[name]
    parts = _read_parts(task, config)
    kind = KINDS[task.kind]
    labels = task.labels or _labels_of_data([rows for both in parts for rows in both], kind)
    train_parts, heldout_parts = ([both[side] for both in parts] for side in (0, 1))
    train = _tokenize(train_parts, labels, task, config, tokenizer)
    validation = _tokenize(heldout_parts, labels, task, config, tokenizer)
    heldout = concatenate(heldout_parts)
    found = TaskData(name, labels, task_text(task), train, validation, heldout)
    _check_seen(found)
    return found


def load_rows(name: str, config: TrainingRun) -> tuple[LabelledRows, LabelledRows]:
    """The training and the held-out rows of a task as they were read, for models of other kinds.

    Raises DataError.
    """
    task = config.tasks[name]
    parts = _read_parts(task, config)
    train, heldout = (concatenate([both[side] for both in parts]) for side in (0, 1))
    return train, heldout


def load_fold_test(
    name: str, config: TrainingRun, labels: Sequence[str], tokenizer: TextTokenizer
) -> FoldTest:
    """Read and tokenize the rows of the fold that the config leaves out, to be tested on.

    Nothing else reads these rows; training never calls it. labels: names in column order.
    Raises DataError.
    """
    task = config.tasks[name]
    parts = []
    for data in task.data:
        rows = _read_usable(data, task, "train")
        parts.append(rows.take(_fold_rows(rows, data, task, config).tolist()))
    return FoldTest(_tokenize(parts, tuple(labels), task, config, tokenizer), concatenate(parts))


def _read_parts(task: TaskConfig, config: TrainingRun) -> list[tuple[LabelledRows, LabelledRows]]:
    """Training and held-out rows of each data set; labels look alike in none and between none."""
    parts = [_train_and_heldout(data, task, config) for data in task.data]
    rows = [rows for both in parts for rows in both]
    refuse_lookalikes(_uses(rows, KINDS[task.kind]), task.labels or ())
    return parts


def _names(rows: LabelledRows, kind: AnyKind) -> list[Sequence[str]]:
    """Labels that the gold value of each row names."""
    return [kind.gold_labels(gold) for gold in rows.gold]


def _uses(parts: Sequence[LabelledRows], kind: AnyKind) -> dict[str, LabelUse]:
    """Labels of some rows, with counts and first rows."""
    return count_labels(
        chain.from_iterable(_names(rows, kind) for rows in parts),
        chain.from_iterable(rows.row_names for rows in parts),
    )


def task_text(task: TaskConfig) -> TextSpec:
    """How the text of a task is built."""
    return TextSpec(title=task.title, entity_markers=task.entity_markers)


def _train_and_heldout(
    data: DataConfig, task: TaskConfig, config: TrainingRun
) -> tuple[LabelledRows, LabelledRows]:
    rows = _read_usable(data, task, "train")
    if config.fold is not None:
        tested = _fold_rows(rows, data, task, config)
        rows = rows.take(np.setdiff1d(np.arange(len(rows)), tested).tolist())
    if data.validation_value is not None:
        return rows, _read_usable(data, task, "validation")
    share = data.validation_share
    try:
        train, heldout = stratified_split(
            _stratify_by(rows, KINDS[task.kind]),
            fractions=(1 - share, share),
            seed=config.seed,
            groups=_kept_together(rows, task, config),
        )
    except ValueError as error:
        raise DataError(
            f"{data.path}: a share of {share} cannot be held out: {error}",
            hint="more rows, or a validation_value",
        ) from error
    return rows.take(train.tolist()), rows.take(heldout.tolist())


def _fold_rows(
    rows: LabelledRows, data: DataConfig, task: TaskConfig, config: TrainingRun
) -> Int64Array:
    """Rows of the fold that the config leaves out; the other folds do not depend on which it is."""
    assert config.fold is not None
    try:
        folds = stratified_folds(
            _stratify_by(rows, KINDS[task.kind]),
            folds=config.fold.of,
            seed=config.seed,
            groups=_kept_together(rows, task, config),
        )
    except ValueError as error:
        raise DataError(
            f"{data.path}: cannot be split into {config.fold.of} folds: {error}",
            hint="more rows, or fewer folds",
        ) from error
    return folds[config.fold.index]


def _stratify_by(rows: LabelledRows, kind: AnyKind) -> BoolArray:
    """(rows, labels) bool, labels that occur in each row."""
    of_rows = _names(rows, kind)
    names = sorted({label for labels in of_rows for label in labels})
    return label_matrix(of_rows, tuple(names), source=rows.source)


def _kept_together(rows: LabelledRows, task: TaskConfig, config: TrainingRun) -> Sequence[Hashable]:
    """A code of each row that is the same for rows of one group, or of one model text.

    Where groups share texts, they are one: connected components of rows, groups and texts.
    """
    texts = _model_texts(rows, task, config.encoder.max_tokens)
    same_text = [text.text for text in texts]
    if rows.groups is None:
        return same_text
    groups, text_codes = (_codes(values) for values in (rows.groups, same_text))
    nodes = int(groups.max()) + 1 + int(text_codes.max()) + 1  # groups first, then texts
    edges = coo_array(
        (np.ones(len(rows)), (groups, groups.max() + 1 + text_codes)), shape=(nodes, nodes)
    )
    _, component = connected_components(edges, directed=False)
    return [int(code) for code in component[groups]]


def _codes(values: Sequence[Hashable]) -> Int64Array:
    """Number values in order of first appearance, (rows,) int64."""
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(value, len(numbers)) for value in values], dtype=np.int64)


def _read_usable(data: DataConfig, task: TaskConfig, part: Part) -> LabelledRows:
    rows = read_part(data, task, part)
    _check_labels(rows, task)
    usable = _usable(rows, data, task)
    if not len(usable):
        raise DataError(
            f"{data.path}: no rows to {'train' if part == 'train' else 'validate'} on; {len(rows)} "
            "were read",
            hint="check split_column, train_value, validation_value and labels in the config",
        )
    return usable


def _check_labels(rows: LabelledRows, task: TaskConfig) -> None:
    """Refuse labels that are lists written as text or only look alike; log what is odd.

    A label that looks like a listed one is refused also where other labels are ignored.
    """
    uses, listed = _uses([rows], KINDS[task.kind]), task.labels or ()
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
        names = _names(rows, kind)
        label_matrix(names, task.labels, source=rows.source, row_names=rows.row_names)
        return rows
    gold = [kind.only_known(value, frozenset(task.labels)) for value in rows.gold]
    usable = [row for row, value in enumerate(gold) if value is not None]
    return replace(rows, gold=gold).take(usable)


def _labels_of_data(parts: Sequence[LabelledRows], kind: AnyKind) -> tuple[str, ...]:
    """Labels that occur, the most frequent first."""
    counts = Counter(label for rows in parts for labels in _names(rows, kind) for label in labels)
    if not counts:
        raise DataError(
            f"{parts[0].source}: no row has a label", hint="check labels_column in the config"
        )
    return tuple(sorted(counts, key=lambda label: (-counts[label], label)))


def _tokenize(
    parts: Sequence[LabelledRows],
    labels: tuple[str, ...],
    task: TaskConfig,
    config: TrainingRun,
    tokenizer: TextTokenizer,
) -> TokenizedRows:
    max_tokens = config.encoder.max_tokens
    texts = [text for rows in parts for text in _model_texts(rows, task, max_tokens)]
    kind = KINDS[task.kind]
    matrices = [
        label_matrix(_names(rows, kind), labels, source=rows.source, row_names=rows.row_names)
        for rows in parts
    ]
    gold = [value for rows in parts for value in rows.gold]
    presence = np.concatenate(matrices)
    targets = kind.encode(gold, labels)
    is_presence = isinstance(targets, np.ndarray) and np.array_equal(targets, presence)
    return TokenizedRows(
        list(tokenizer.encode(texts)), presence, presence if is_presence else targets
    )


def _model_texts(rows: LabelledRows, task: TaskConfig, max_tokens: int) -> list[ModelText]:
    spec = task_text(task)
    texts = []
    for row, article in enumerate(rows.articles):
        try:
            texts.append(model_text(article, spec, max_tokens=max_tokens))
        except ValueError as error:
            start = (article.text or "")[:60]
            raise DataError(
                f"{rows.row_names[row]}: {error} (text {start!r}...)",
                hint="correct the row, or leave it out",
            ) from error
    return texts


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
