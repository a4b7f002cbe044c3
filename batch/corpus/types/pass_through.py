"""Pass-through columns, which predictions copy from the input, with one type each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from batch.corpus.sources.footers import PlannedFile
from batch.corpus.sources.versions import CheckStop
from batch.corpus.tasks import RunTasks
from batch.corpus.types.column_names import check_fields, check_names
from batch.corpus.types.common_types import common_type, is_bytes
from batch.corpus.types.convert import is_exact
from batch.corpus.types.output_types import (
    NoCommonTypeError,
    is_uuid,
    nested_names,
    plain_type,
    readable_type,
    typed,
)
from batch.corpus.types.scan import check_int96, check_values
from batch.corpus.types.uses import Use, column_uses
from batch.options import CorpusOptions
from schemas.errors import CorpusError

SHOWN_COLUMNS = 12


@dataclass(frozen=True)
class KeptColumns:
    """Columns that predictions copy. notes: for the log, columns written as another type."""

    schema: pa.Schema
    notes: tuple[str, ...]


@dataclass
class _Checks:
    """Columns whose values must be read, by file."""

    targets: dict[int, tuple[PlannedFile, dict[str, pa.DataType]]] = field(default_factory=dict)

    def add(self, use: Use, target: pa.DataType) -> None:
        for file in use.files:
            self.targets.setdefault(id(file), (file, {}))[1][use.name] = target

    def run(self, check_stop: CheckStop) -> None:
        for file, targets in self.targets.values():
            check_values(file, targets, check_stop)


def kept_columns(
    files: Sequence[PlannedFile], options: CorpusOptions, tasks: RunTasks, check_stop: CheckStop
) -> KeptColumns:
    """Choose the columns that predictions copy; rows of a file that lacks one get nulls.

    Raises CorpusError for a column with values or a name that readers of predictions do not
    support, before anything is scored.
    """
    uses = column_uses(files, options, tasks)
    check_names(uses, tasks)
    types: dict[str, pa.DataType] = {}
    checks = _Checks()
    for name, uses_of_column in uses.items():
        types[name] = _choose(name, uses_of_column, check_stop)
        for use in uses_of_column:
            if not (use.is_key or is_exact(use.type, types[name])):
                checks.add(use, types[name])
    checks.run(check_stop)
    for file in files:
        not_copied = set() if options.keep_text else {options.text_column}
        if names := sorted(file.int96 - not_copied):
            check_int96(file, names, check_stop)
    schema = pa.schema([pa.field(name, kind) for name, kind in types.items()])
    return KeptColumns(schema, tuple(_notes(uses, types)))


def _choose(name: str, uses: Sequence[Use], check_stop: CheckStop) -> pa.DataType:
    """The type of one column across all files."""
    try:
        candidates = _candidates(uses)
    except NoCommonTypeError:
        with_values = [use for use in uses if not use.has_only_nulls(check_stop)]
        try:
            candidates = _candidates(with_values)
        except NoCommonTypeError as error:
            raise _no_common_type(name, with_values) from error
    narrow, wide = candidates
    if narrow == wide or all(use.fits(narrow, check_stop) for use in uses):
        return narrow
    return wide


def _candidates(uses: Sequence[Use]) -> tuple[pa.DataType, pa.DataType]:
    """Types for a column: the most specific one, and the one that can represent more values."""
    readable = dict.fromkeys(_readable(use) for use in uses)
    if any(is_uuid(use.type) for use in uses) and any(map(is_bytes, readable)):
        raise NoCommonTypeError("UUIDs as text, and bytes")
    narrow = wide = pa.null()
    for kind in readable:
        narrow = common_type(narrow, kind, narrow=True)
        wide = common_type(wide, kind, narrow=False)
    for names in nested_names(narrow):
        check_fields(names, uses[0])
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
        f"column {name!r} has no type that fits its values in all files: it is {where}",
        hint="write the column with one type, or score these files in separate runs",
    )


def _notes(uses: Mapping[str, Sequence[Use]], types: Mapping[str, pa.DataType]) -> Iterator[str]:
    changed = []
    for name, uses_of_column in uses.items():
        sources = {plain_type(use.type) for use in uses_of_column}
        sources = {
            kind for kind in sources if typed(kind) != types[name] and not pa.types.is_null(kind)
        }
        changed += [f"{name!r} ({source} as {types[name]})" for source in sorted(sources, key=str)]
    if changed:
        more = len(changed) - SHOWN_COLUMNS
        rest = f" and {more} more" if more > 0 else ""
        yield f"columns written as other types: {', '.join(changed[:SHOWN_COLUMNS])}{rest}"
