"""Gold labels of a corpus: checked before anything is scored, counted with the rest."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from batch.corpus.decode import gold_lists
from batch.corpus.footers import decode_error, open_parquet
from batch.corpus.plan import Plan
from batch.corpus.versions import CheckStop, never_stop
from schemas.errors import CorpusError, NarrascanError, listing, nearest
from schemas.printable import printable
from schemas.tasks import BoolArray, label_matrix


def check_gold(
    plan: Plan, column: str, labels: Sequence[str], check_stop: CheckStop = never_stop
) -> None:
    """Read the gold column of every file and refuse labels that the model does not know.

    check_stop: called for every batch of rows; it may raise.
    Raises CorpusError with file, row and the nearest label: a wrong column shows here, in seconds,
    and not after a night of scoring.
    """
    known = set(labels)
    for file in plan.files:
        first = 0
        with open_parquet(file.source) as opened:
            try:
                for batch in opened.iter_batches(columns=[column]):
                    check_stop()
                    gold = gold_lists(batch.column(column))
                    _check_rows(gold, first, known, file.source.name, column)
                    first += batch.num_rows
            except (NarrascanError, MemoryError):
                raise
            except Exception as error:  # a store raises errors of its own classes
                what = f"gold column {column!r} from row {first} on"
                raise decode_error(file.source, what, error) from error


def _check_rows(
    gold: list[list[str] | None], first: int, known: set[str], source: str, column: str
) -> None:
    for row, names in enumerate(gold):
        for name in names or ():
            if name not in known:
                close = nearest(name, known)
                guess = f"did you mean {close!r}? " if close else ""
                raise CorpusError(
                    f"{printable(source)}, row {first + row}: gold column {column!r} has {name!r}, "
                    f"which the model does not know; it knows {listing(sorted(known), 6)}",
                    hint=f"{guess}--ignore-unknown-gold leaves such labels out of the scores",
                )


def gold_matrix(
    gold: Sequence[list[str] | None], labels: tuple[str, ...]
) -> tuple[BoolArray, BoolArray]:
    """Gold labels as (rows, labels) bool, and (rows,) bool for rows that have any say in them."""
    known = np.array([names is not None for names in gold], dtype=np.bool_)
    filled = [names or [] for names in gold]
    return label_matrix(filled, labels, source="gold", ignore_unknown=True), known
