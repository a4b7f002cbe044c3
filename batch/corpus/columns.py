"""Columns of a corpus: which a file must have, and which predictions take over from the input."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from batch.corpus.footers import PlannedFile, first_line
from batch.options import RunOptions
from batch.tasks import RunTasks
from schemas.errors import CorpusError, listing, nearest
from schemas.tables import END, ENTITY, START, is_text


def check_columns(
    file: PlannedFile, options: RunOptions, tasks: RunTasks, *, entity_markers: bool
) -> None:
    """Check the columns of one file. Raises CorpusError with the file, column and nearest name."""
    names = [*file.schema.names, *(key for key, _ in file.source.partitions)]
    doubled = sorted({name for name in file.schema.names if file.schema.names.count(name) > 1})
    if doubled:
        raise CorpusError(
            f"{file.source.name}: column names must differ; doubled: {listing(doubled)}",
            hint="rename one of each pair",
        )
    taken = [name for name in names if name in tasks.reserved and tasks.output_name(name) == name]
    if taken:
        raise CorpusError(
            f"{file.source.name}: has columns that predictions add themselves: {listing(taken)}",
            hint="; ".join(["rename them", *tasks.gold_hints(taken)]),
        )
    _require_text(file, options.text_column, "--text-column")
    for column in tasks.gold.values():
        _require(file, column, "--gold-column")
        _check_gold_type(file, column)
    keys = {key for key, _ in file.source.partitions}
    for name in sorted(options.named_columns - keys):
        _require(file, name, "its option")
    if options.title_column in file.schema.names:
        _require_text(file, options.title_column, "--title-column")
    if entity_markers:
        if ENTITY in file.schema.names:
            _require_text(file, ENTITY, None)
        for name in (START, END):
            _require(file, name, None)
            kind = file.schema.field(name).type
            if not pa.types.is_integer(kind):
                raise CorpusError(
                    f"{file.source.name}: column {name!r} is {kind}; character offsets are integers"
                )


def _require(file: PlannedFile, name: str, option: str | None) -> None:
    if name in file.schema.names:
        return
    close = nearest(name, file.schema.names)
    guess = f"did you mean {close!r}? " if close else ""
    mend = f"Name the column with {option}" if option else "This task marks an entity in the text"
    raise CorpusError(
        f"{file.source.name}: no column {name!r}; there are {listing(file.schema.names)}",
        hint=guess + mend,
    )


def _require_text(file: PlannedFile, name: str, option: str | None) -> None:
    _require(file, name, option)
    kind = file.schema.field(name).type
    if not is_text(kind) and not pa.types.is_null(kind):  # a column of nulls only may have no type
        raise CorpusError(
            f"{file.source.name}: column {name!r} is {kind}, not text",
            hint=f"name a string column with {option}" if option else "it must be a string column",
        )


def _check_gold_type(file: PlannedFile, name: str) -> None:
    kind = file.schema.field(name).type
    inner = kind.value_type if pa.types.is_list(kind) or pa.types.is_large_list(kind) else kind
    if not is_text(inner):
        raise CorpusError(
            f"{file.source.name}: gold column {name!r} is {kind}; expected a list of strings or a "
            "string"
        )


def kept_schema(files: Sequence[PlannedFile], options: RunOptions, tasks: RunTasks) -> pa.Schema:
    """The columns of all files together; a file that lacks one gets nulls."""
    merged: pa.Schema | None = None
    for file in files:
        fields = [
            field.with_name(tasks.output_name(field.name)).with_nullable(True)
            for field in file.schema
            if options.keep_text or field.name != options.text_column
        ]
        known = {field.name for field in fields}
        fields += [pa.field(k, pa.string()) for k, _ in file.source.partitions if k not in known]
        _check_doubled(fields, file, tasks)
        ours = pa.schema([field.remove_metadata() for field in fields])
        try:
            merged = (
                ours
                if merged is None
                else pa.unify_schemas([merged, ours], promote_options="permissive")
            )
        except pa.ArrowException as error:
            raise CorpusError(
                f"{file.source.name}: columns do not agree with the files before it: "
                f"{first_line(error)}",
                hint="score files of different layouts in runs of their own",
            ) from error
    assert merged is not None
    return merged


def _check_doubled(fields: list[pa.Field], file: PlannedFile, tasks: RunTasks) -> None:
    names = [field.name for field in fields]
    for column in tasks.gold.values():
        renamed = tasks.output_name(column)
        if names.count(renamed) > 1:
            raise CorpusError(
                f"{file.source.name}: the gold column {column!r} becomes {renamed!r}, which is "
                "there already",
                hint="rename one of the two",
            )
