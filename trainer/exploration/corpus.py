"""Reading a corpus with whatever it says of its rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from schemas.errors import DataError, listing, nearest
from schemas.kinds import DEFAULT_KIND, KINDS
from schemas.tables import is_text
from schemas.text.arrow_text import BadText, decode_text
from schemas.text.model_text import is_blank
from trainer.data.readers.columns import is_words
from trainer.data.readers.files import list_files
from trainer.data.readers.tables import OpenFile, open_file
from trainer.data.readers.tagged import text_of_words

NO_VALUE = "(none)"
"""Name of rows without a domain, a language or a part."""


@dataclass(frozen=True)
class Columns:
    """Names of columns; all but that of the text may be missing from the data."""

    text: str = "text"
    labels: str = "labels"
    domain: str = "domain"
    language: str = "language"
    split: str = "split"


@dataclass(frozen=True)
class Corpus:
    """Rows that have a text.

    labels: of each row; None for one that is not labelled, and in all where there is no column.
    domains, languages, parts: one a row, or None where the data has no such column.
    left_out: rows without text, or with bytes that are not UTF-8.
    """

    source: str
    texts: Sequence[str]
    labels: Sequence[Sequence[str] | None]
    domains: Sequence[str] | None
    languages: Sequence[str] | None
    parts: Sequence[str] | None
    left_out: int

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def label_counts(self) -> Counter[str]:
        """Rows of each label."""
        return Counter(label for of_row in self.labels for label in set(of_row or ()))

    def labels_by_frequency(self, most: int) -> list[str]:
        """The most frequent labels, those of equal counts by name."""
        counts = self.label_counts
        return sorted(counts, key=lambda label: (-counts[label], label))[:most]

    def domains_by_frequency(self, most: int) -> list[str]:
        """The largest domains; none where there is no such column."""
        return [name for name, _ in Counter(self.domains or ()).most_common(most)]

    def rows_of(self, domain: str) -> list[int]:
        """Rows of a domain."""
        return [row for row, name in enumerate(self.domains or ()) if name == domain]


def read_corpus(path: Path, columns: Columns) -> Corpus:
    """Read all rows of a Parquet file or a folder of them. Raises DataError."""
    files = [open_file(file) for file in list_files(path)]
    for file in files:
        _check(file, columns)
    optional = [
        any(is_text(file.columns.get(name, pa.null())) for file in files)
        for name in (columns.domain, columns.language, columns.split)
    ]
    rows = [row for file in files for row in _rows(file, columns)]
    usable = [row for row in rows if not isinstance(row[0], BadText) and not is_blank(row[0])]
    if not usable:
        raise DataError(f"{path}: no row has a text", hint="name the column with --text-column")
    texts, labels, *facets = zip(*usable, strict=True)
    domains, languages, parts = (
        [value or NO_VALUE for value in values] if there else None
        for values, there in zip(facets, optional, strict=True)
    )
    return Corpus(
        source=path.name,
        texts=[str(text) for text in texts],
        labels=labels,
        domains=domains,
        languages=languages,
        parts=parts,
        left_out=len(rows) - len(usable),
    )


def _check(file: OpenFile, columns: Columns) -> None:
    kind = file.columns.get(columns.text)
    if kind is None:
        close = nearest(columns.text, file.columns)
        raise DataError(
            f"{file.path}: no column {columns.text!r}; there are {listing(file.columns)}",
            hint=f"--text-column {close}" if close else "name the column with --text-column",
        )
    if not is_text(kind) and not is_words(kind):
        raise DataError(f"{file.path}: column {columns.text!r} is {kind}, not text or words")


def _rows(
    file: OpenFile, columns: Columns
) -> Iterator[tuple[str | None, Sequence[str] | None, str | None, str | None, str | None]]:
    """Text, labels, domain, language and part of each row."""
    kind = KINDS[DEFAULT_KIND]
    names = [columns.text, columns.labels, columns.domain, columns.language, columns.split]
    there = [name for name in dict.fromkeys(names) if name in file.columns]
    has_labels = columns.labels in there and kind.accepts_gold(file.columns[columns.labels])
    for batch in file.batches(there):
        nothing: list[None] = [None] * batch.num_rows
        texts = file.array(batch, columns.text)
        labels = kind.read_gold(file.array(batch, columns.labels)) if has_labels else nothing
        facets = [
            decode_text(file.array(batch, name))
            if is_text(file.columns.get(name, pa.null()))
            else nothing
            for name in (columns.domain, columns.language, columns.split)
        ]
        yield from zip(
            [None if one is None else text_of_words(one) for one in texts.to_pylist()]
            if is_words(texts.type)
            else decode_text(texts),
            [None if of_row is None else kind.gold_labels(of_row) for of_row in labels],
            *facets,
            strict=True,
        )
