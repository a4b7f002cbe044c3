"""Pass-through columns: which columns predictions take over, and the one type that each has."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from batch.corpus.common_types import common_type
from batch.corpus.convert import is_exact
from batch.corpus.footers import PlannedFile
from batch.corpus.output_types import (
    NoCommonTypeError,
    nested_names,
    plain_type,
    readable_type,
    typed,
)
from batch.corpus.scan import check_int96, check_values, converts, only_nulls
from batch.options import RunOptions
from batch.tasks import RunTasks
from schemas.errors import CorpusError
from schemas.printable import printable
from schemas.tables import name_key

SHOWN_COLUMNS = 12


@dataclass(frozen=True)
class KeptColumns:
    """Columns that predictions take over. notes: for the log, what is written as another type."""

    schema: pa.Schema
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Use:
    """One column as the files of one layout have it; a hive key is no column of the file itself."""

    name: str
    type: pa.DataType
    files: tuple[PlannedFile, ...]
    is_key: bool = False

    @property
    def where(self) -> str:
        """The first of the files, for messages."""
        return printable(self.files[0].source.name)

    @property
    def has_only_nulls(self) -> bool:
        """True if no row of these files has a value."""
        return not self.is_key and all(only_nulls(file, self.name) for file in self.files)

    def fits(self, target: pa.DataType) -> bool:
        """True if every value of these files can become `target`."""
        if self.is_key or is_exact(self.type, target):
            return True
        return all(converts(file, self.name, target) for file in self.files)


@dataclass
class _Checks:
    """Columns whose values must be read, by file."""

    targets: dict[int, tuple[PlannedFile, dict[str, pa.DataType]]] = field(default_factory=dict)

    def add(self, use: Use, target: pa.DataType) -> None:
        for file in use.files:
            self.targets.setdefault(id(file), (file, {}))[1][use.name] = target

    def run(self) -> None:
        for file, targets in self.targets.values():
            check_values(file, targets)


def kept_columns(files: Sequence[PlannedFile], options: RunOptions, tasks: RunTasks) -> KeptColumns:
    """Choose the columns that predictions take over; a file that lacks one gets nulls.

    Raises CorpusError for a column whose values or name the readers of predictions could not
    have, before anything is scored.
    """
    uses = _uses(files, options, tasks)
    _check_names(uses, tasks)
    types: dict[str, pa.DataType] = {}
    checks = _Checks()
    for name, of_column in uses.items():
        types[name] = _choose(name, of_column)
        for use in of_column:
            if not (use.is_key or is_exact(use.type, types[name])):
                checks.add(use, types[name])
    checks.run()
    for file in files:
        dropped = set() if options.keep_text else {options.text_column}
        if names := sorted(file.int96 - dropped):
            check_int96(file, names)
    schema = pa.schema([pa.field(name, kind) for name, kind in types.items()])
    return KeptColumns(schema, tuple(_notes(uses, types)))


def layouts(files: Sequence[PlannedFile]) -> Iterator[tuple[PlannedFile, ...]]:
    """Files in groups that have the same columns and hive keys, in order of first appearance."""
    groups: dict[tuple[pa.Schema, tuple[str, ...]], list[PlannedFile]] = {}
    for file in files:
        keys = tuple(key for key, _ in file.source.partitions)
        groups.setdefault((file.schema, keys), []).append(file)
    return (tuple(group) for group in groups.values())


def _uses(
    files: Sequence[PlannedFile], options: RunOptions, tasks: RunTasks
) -> dict[str, list[Use]]:
    """Uses of each column that predictions have, by its name there."""
    uses: dict[str, list[Use]] = {}
    for group in layouts(files):
        schema = group[0].schema
        for column in schema:
            if options.keep_text or column.name != options.text_column:
                use = Use(column.name, column.type, group)
                uses.setdefault(tasks.output_name(column.name), []).append(use)
        inside = set(schema.names)
        for key, _ in group[0].source.partitions:
            if key not in inside:
                uses.setdefault(key, []).append(Use(key, pa.string(), group, is_key=True))
    return uses


def _check_names(uses: Mapping[str, Sequence[Use]], tasks: RunTasks) -> None:
    """Refuse names that Spark and DuckDB, which do not look at case, take for one."""
    seen: dict[str, str] = {}
    for name, of_column in uses.items():
        for use in of_column:
            renamed = tasks.output_name(use.name) != use.name
            if renamed and any(other.name == name for other in of_column):
                raise CorpusError(
                    f"{use.where}: the gold column {use.name!r} becomes {name!r}, which is there "
                    "already",
                    hint="rename one of the two",
                )
            for names in nested_names(use.type):
                _check_fields(names, use)
        other = seen.setdefault(name_key(name), name)
        if other != name:
            first, second = uses[other][0], of_column[0]
            where = first.where if first.files == second.files else f"{first.where}, {second.where}"
            raise CorpusError(
                f"{where}: columns {first.name!r} and {second.name!r} differ in case only, and "
                "Spark and DuckDB cannot tell them apart",
                hint="rename or drop one of the two",
            )


def _check_fields(names: Sequence[str], use: Use) -> None:
    seen: dict[str, str] = {}
    for name in names:
        if name_key(name) in seen:
            raise CorpusError(
                f"{use.where}: column {use.name!r} has the fields {seen[name_key(name)]!r} and "
                f"{name!r}, which Spark cannot tell apart",
                hint="rename or drop one of the two",
            )
        seen[name_key(name)] = name


def _choose(name: str, uses: Sequence[Use]) -> pa.DataType:
    """The type of one column over all files."""
    try:
        candidates = _candidates(uses)
    except NoCommonTypeError:
        with_values = [use for use in uses if not use.has_only_nulls]
        try:
            candidates = _candidates(with_values)
        except NoCommonTypeError as error:
            raise _no_common_type(name, with_values) from error
    narrow, wide = candidates
    if narrow == wide or all(use.fits(narrow) for use in uses):
        return narrow
    return wide


def _candidates(uses: Sequence[Use]) -> tuple[pa.DataType, pa.DataType]:
    """Types for a column: the one that says most, and the one that holds more values."""
    readable = dict.fromkeys(_readable(use) for use in uses)
    narrow = wide = pa.null()
    for kind in readable:
        narrow = common_type(narrow, kind, narrow=True)
        wide = common_type(wide, kind, narrow=False)
    for names in nested_names(narrow):
        _check_fields(names, uses[0])
    return typed(narrow), typed(wide)


def _readable(use: Use) -> pa.DataType:
    try:
        return readable_type(use.type)
    except ValueError as error:
        raise CorpusError(
            f"{use.where}: column {use.name!r} is {error}",
            hint="drop the column, or write it as a string",
        ) from error


def _no_common_type(name: str, uses: Sequence[Use]) -> CorpusError:
    types: dict[str, str] = {}
    for use in uses:
        types.setdefault("a hive key" if use.is_key else str(use.type), use.where)
    where = ", ".join(f"{kind} in {file}" for kind, file in list(types.items())[:3])
    return CorpusError(
        f"column {name!r} has no type that keeps its values in all files: it is {where}",
        hint="write the column with one type, or score such files in runs of their own",
    )


def _notes(uses: Mapping[str, Sequence[Use]], types: Mapping[str, pa.DataType]) -> Iterator[str]:
    changed = []
    for name, of_column in uses.items():
        sources = {plain_type(use.type) for use in of_column} - {types[name], pa.null()}
        changed += [f"{name!r} ({source} as {types[name]})" for source in sorted(sources, key=str)]
    if changed:
        more = len(changed) - SHOWN_COLUMNS
        rest = f" and {more} more" if more > 0 else ""
        yield f"columns written as other types: {', '.join(changed[:SHOWN_COLUMNS])}{rest}"
