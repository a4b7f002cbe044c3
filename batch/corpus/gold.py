"""Gold labels of a corpus: checked before anything is scored, counted with the rest."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import numpy as np
import pyarrow as pa

from batch.corpus.decode import gold_lists
from batch.corpus.footers import open_parquet
from batch.corpus.plan import Plan
from schemas.arrow_text import BadText
from schemas.errors import CorpusError, listing, nearest
from schemas.labels import mistaken_label
from schemas.tasks import BoolArray, label_matrix


def check_gold(
    plan: Plan, column: str, labels: Sequence[str], *, ignore_unknown: bool = False
) -> None:
    """Read the gold column of every file and refuse labels that the model does not know.

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
                    gold = gold_lists(batch.column(0))
                    for row, name in _unknown(gold, first, known, ignored):
                        problem = _problem(name, known, column, ignore_unknown=ignore_unknown)
                        if problem is not None:
                            reason, hint = problem
                            raise CorpusError(f"{file.source.name}, row {row}: {reason}", hint=hint)
                        ignored.add(name)
                    first += batch.num_rows
            except (OSError, pa.ArrowException) as error:
                raise CorpusError(
                    f"{file.source.name}: gold column {column!r} cannot be decoded from row "
                    f"{first} on: {error}",
                    hint="the file is damaged; write it again",
                ) from error


def _unknown(
    gold: Sequence[list[str] | None], first: int, known: Collection[str], ignored: Collection[str]
) -> Iterator[tuple[int, str]]:
    """Row and name of labels that the model does not know; without those ignored before."""
    for row, names in enumerate(gold, start=first):
        for name in names or ():
            if name not in known and name not in ignored:
                yield row, name


def _problem(
    name: str, known: Collection[str], column: str, *, ignore_unknown: bool
) -> tuple[str, str] | None:
    """Reason and hint why a label is refused; None if it is ignored."""
    if isinstance(name, BadText):
        return f"gold column {column!r} has a label that is {name}", "write the labels as UTF-8"
    mistake = mistaken_label(name, known)
    reason = f"gold column {column!r} has {name!r}, which the model does not know"
    if mistake is not None:
        return f"{reason}; {mistake}", "write the labels as the model spells them"
    if ignore_unknown:
        return None
    close = nearest(name, known)
    guess = f"did you mean {close!r}? " if close else ""
    return (
        f"{reason}; it knows {listing(sorted(known), 6)}",
        f"{guess}--ignore-unknown-gold leaves such labels out of the scores",
    )


def gold_matrix(
    gold: Sequence[list[str] | None], labels: tuple[str, ...]
) -> tuple[BoolArray, BoolArray]:
    """Gold labels as (rows, labels) bool, and (rows,) bool for rows that are labelled at all."""
    known = np.array([names is not None for names in gold], dtype=np.bool_)
    filled = [names or [] for names in gold]
    return label_matrix(filled, labels, source="gold", ignore_unknown=True), known
