"""What every reader returns."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from schemas.text import Article


@dataclass(frozen=True)
class LabelledRows:
    """Rows of one part of one data set.

    source: file or folder they came from, for messages.
    articles, gold: one article and its gold label names a row.
    groups: value that rows of one article share, or None if every row stands for itself.
    """

    source: str
    articles: Sequence[Article]
    gold: Sequence[list[str]]
    groups: Sequence[Hashable] | None = None

    def __len__(self) -> int:
        return len(self.articles)

    def take(self, rows: Sequence[int]) -> LabelledRows:
        """The given rows, in the given order."""
        return LabelledRows(
            self.source,
            [self.articles[row] for row in rows],
            [self.gold[row] for row in rows],
            None if self.groups is None else [self.groups[row] for row in rows],
        )
