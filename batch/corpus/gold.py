"""Gold labels of a corpus: checked before anything is scored, counted with the rest."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from batch.corpus.plan import Plan
from batch.corpus.sources.footers import decode_error, open_parquet
from batch.corpus.sources.versions import CheckStop, never_stop
from schemas.arrays import BoolArray
from schemas.errors import CorpusError, NarrascanError, listing, nearest
from schemas.kinds import AnyKind
from schemas.kinds.base import Targets
from schemas.tasks.labels import mistaken_label
from schemas.tasks.parents import Parents
from schemas.text.arrow_text import BadText


def read_gold_column(kind: AnyKind, column: pa.Array) -> list[Any]:
    """Gold value of each row; None where a row is not labelled."""
    if column.null_count == len(column):  # perhaps of another type: nothing was labelled that day
        return [None] * len(column)
    return kind.read_gold(column)


def check_gold(
    plan: Plan,
    kind: AnyKind,
    column: str,
    labels: Sequence[str],
    check_stop: CheckStop = never_stop,
    *,
    ignore_unknown: bool = False,
) -> None:
    """Read the gold column of every file and refuse labels that the model does not know.

    check_stop: called for every batch of rows; it may raise.
    ignore_unknown: refuse only what is a known label by mistake another text: lists written as
    text, and labels that look like known ones.
    Raises CorpusError with file, row and the nearest label: a wrong column shows here, in seconds,
    and not after a night of scoring.
    """
    known = dict.fromkeys(labels)
    ignored: set[str] = set()
    for file in plan.files:
        first = 0
        with open_parquet(file.source) as opened:
            try:
                for batch in opened.iter_batches(columns=[column]):
                    check_stop()
                    gold = read_gold_column(kind, batch.column(column))
                    names = [None if one is None else kind.gold_labels(one) for one in gold]
                    for row, name in _unknown(names, first, known, ignored):
                        where = f"{file.source.label}, row {row}: gold column {column!r}"
                        _check_label(name, known, where, ignore_unknown=ignore_unknown)
                        ignored.add(name)
                    first += batch.num_rows
            except (NarrascanError, MemoryError):
                raise
            except Exception as error:  # a store raises errors of its own classes
                what = f"gold column {column!r} from row {first} on"
                raise decode_error(file.source, what, error) from error


def _unknown(
    gold: Sequence[Sequence[str] | None],
    first: int,
    known: Collection[str],
    ignored: Collection[str],
) -> Iterator[tuple[int, str]]:
    """Row and name of labels that the model does not know; without those ignored before.

    Rows with a label that is not UTF-8 are for quarantine.
    """
    for row, names in enumerate(gold, start=first):
        for name in names or ():
            if name not in known and name not in ignored and not isinstance(name, BadText):
                yield row, name


def _check_label(name: str, known: Collection[str], where: str, *, ignore_unknown: bool) -> None:
    """Refuse a label that the model does not know, unless it is plainly another.

    where: file, row and column. Raises CorpusError.
    """
    mistake = mistaken_label(name, known)
    reason = f"{where} has {name!r}, which is not a label of the model"
    if mistake is not None:
        raise CorpusError(f"{reason}; {mistake}", hint="write the labels as the model spells them")
    if not ignore_unknown:
        close = nearest(name, known)
        guess = f"did you mean {close!r}? " if close else ""
        raise CorpusError(
            f"{reason}; it has {listing(sorted(known), 6)}",
            hint=f"{guess}--ignore-unknown-gold leaves such labels out of the scores",
        )


def bad_labels(kind: AnyKind, gold: Sequence[Any], column: str) -> dict[int, str]:
    """Rows with a gold label that is not UTF-8, and the reason by row."""
    return {
        row: f"gold column {column!r}: {name}"
        for row, value in enumerate(gold)
        for name in (() if value is None else kind.gold_labels(value))
        if isinstance(name, BadText)
    }


def misplaced_gold(
    kind: AnyKind, gold: Sequence[Any], texts: Sequence[str | None], column: str
) -> dict[int, str]:
    """Rows whose gold value cannot belong to their text, and the reason by row."""
    problems = {
        row: kind.gold_problem(value, text)
        for row, (value, text) in enumerate(zip(gold, texts, strict=True))
        if value is not None and text is not None and not isinstance(text, BadText)
    }
    return {
        row: f"gold column {column!r}: {problem}"
        for row, problem in problems.items()
        if problem is not None
    }


def gold_targets(
    kind: AnyKind, gold: Sequence[Any], labels: tuple[str, ...], parents: Parents
) -> tuple[Targets, BoolArray]:
    """Gold values as numbers, one array a row, and (rows,) bool for rows that are labelled.

    parents: of the task's labels; a gold value also counts for those that it implies.
    """
    labelled = np.array([value is not None for value in gold], dtype=np.bool_)
    nothing = kind.empty_gold()
    filled = [nothing if value is None else kind.complete(value, parents) for value in gold]
    return kind.encode(filled, labels), labelled
