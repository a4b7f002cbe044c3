"""Columns of a corpus, grouped by their name in the predictions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from batch.corpus.sources.footers import PlannedFile
from batch.corpus.sources.versions import CheckStop
from batch.corpus.tasks import RunTasks
from batch.corpus.types.convert import is_exact
from batch.corpus.types.scan import converts, only_nulls
from batch.options import CorpusOptions
from schemas.printable import printable


@dataclass(frozen=True)
class Use:
    """A column in the files of one layout. is_key: it is a hive key, not a column of the file."""

    name: str
    type: pa.DataType
    files: tuple[PlannedFile, ...]
    is_key: bool = False

    @property
    def where(self) -> str:
        """The first of the files, for messages."""
        return printable(self.files[0].source.name)

    def has_only_nulls(self, check_stop: CheckStop) -> bool:
        """True if the column is null in every row of these files."""
        if self.is_key:
            return False
        return all(only_nulls(file, self.name, check_stop) for file in self.files)

    def fits(self, target: pa.DataType, check_stop: CheckStop) -> bool:
        """True if every value in these files can be converted to `target` without loss."""
        if self.is_key or is_exact(self.type, target):
            return True
        return all(converts(file, self.name, target, check_stop) for file in self.files)


def layouts(files: Sequence[PlannedFile]) -> Iterator[tuple[PlannedFile, ...]]:
    """Files in groups that have the same columns and hive keys, in order of first appearance."""
    groups: dict[tuple[pa.Schema, tuple[str, ...]], list[PlannedFile]] = {}
    for file in files:
        keys = tuple(key for key, _ in file.source.partitions)
        groups.setdefault((file.schema, keys), []).append(file)
    return (tuple(group) for group in groups.values())


def column_uses(
    files: Sequence[PlannedFile], options: CorpusOptions, tasks: RunTasks
) -> dict[str, list[Use]]:
    """Uses of each pass-through column, by its name in the predictions."""
    uses: dict[str, list[Use]] = {}
    for group in layouts(files):
        schema = group[0].schema
        for column in schema:
            if options.keep_text or column.name != options.text_column:
                use = Use(column.name, column.type, group)
                uses.setdefault(tasks.output_name(column.name), []).append(use)
        file_columns = set(schema.names)
        for key, _ in group[0].source.partitions:
            if key not in file_columns:
                uses.setdefault(key, []).append(Use(key, pa.string(), group, is_key=True))
    return uses
