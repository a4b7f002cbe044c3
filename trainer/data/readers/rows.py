"""What every reader returns."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from schemas.printable import printable
from schemas.text.model_text import Article

T = TypeVar("T")


@dataclass(frozen=True)
class LabelledRows:
    """Rows of one part of one data set.

    source: file or folder they came from, for messages.
    articles, gold: one article and its gold value a row (`schemas.kinds.base.Kind.read_gold`).
    row_names: how messages name each row, such as `a.parquet, row 12`.
    ids: name of each row for users of the model, such as an article's id.
    groups: value that rows of one article share, or None if every row stands for itself.
    domains, languages: one a row, or None where the data has no such column.
    """

    source: str
    articles: Sequence[Article]
    gold: Sequence[Any]
    row_names: Sequence[str]
    ids: Sequence[str]
    groups: Sequence[Hashable] | None = None
    domains: Sequence[str | None] | None = None
    languages: Sequence[str | None] | None = None

    def __len__(self) -> int:
        return len(self.articles)

    def take(self, rows: Sequence[int]) -> LabelledRows:
        """The given rows, in the given order."""
        return LabelledRows(
            self.source,
            [self.articles[row] for row in rows],
            [self.gold[row] for row in rows],
            [self.row_names[row] for row in rows],
            [self.ids[row] for row in rows],
            _take(self.groups, rows),
            _take(self.domains, rows),
            _take(self.languages, rows),
        )


def concatenate(parts: Sequence[LabelledRows]) -> LabelledRows:
    """Rows of several data sets, one after the other; groups end with their data set."""
    return LabelledRows(
        source=", ".join(rows.source for rows in parts),
        articles=[article for rows in parts for article in rows.articles],
        gold=[gold for rows in parts for gold in rows.gold],
        row_names=[name for rows in parts for name in rows.row_names],
        ids=[one for rows in parts for one in rows.ids],
        domains=_join([rows.domains for rows in parts], parts),
        languages=_join([rows.languages for rows in parts], parts),
    )


def row_id(path: Path, row: int) -> str:
    """Id of a row that has none: the name of its file, without folders, and the row."""
    return f"{printable(path.name)}:{row}"


def _take(values: Sequence[T] | None, rows: Sequence[int]) -> list[T] | None:
    return None if values is None else [values[row] for row in rows]


def _join(
    columns: Sequence[Sequence[str | None] | None], parts: Sequence[LabelledRows]
) -> list[str | None] | None:
    """One column of several data sets, null where a data set lacks it; None if all do."""
    if all(column is None for column in columns):
        return None
    return [
        value
        for column, rows in zip(columns, parts, strict=True)
        for value in (column if column is not None else [None] * len(rows))
    ]
