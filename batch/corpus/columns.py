"""Required columns: presence and types in every file of a corpus."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence

import pyarrow as pa

from batch.corpus.sources.footers import PlannedFile
from batch.corpus.sources.versions import CheckStop
from batch.corpus.tasks import RunTasks
from batch.corpus.types.scan import only_nulls
from batch.corpus.types.uses import layouts
from batch.options import CorpusOptions
from schemas.errors import CorpusError, listing, nearest
from schemas.kinds import AnyKind
from schemas.printable import printable
from schemas.tables import END, ENTITY, START, is_text
from schemas.text.model_text import TextSpec


def check_columns(
    files: Sequence[PlannedFile],
    options: CorpusOptions,
    tasks: RunTasks,
    spec: TextSpec,
    check_stop: CheckStop,
) -> None:
    """Check that every file has the columns that the tasks read.

    spec: how the text of the tasks is built; columns that it does not read may be of any type.
    Raises CorpusError with the file, the column and the nearest name.
    """
    for group in layouts(files):
        names = frozenset(group[0].schema.names)
        _check_duplicates(group[0])
        _require_text(group, names, options.text_column, "--text-column", check_stop)
        for task, column in tasks.gold.items():
            _require(group, names, column, "--gold-column")
            _check_gold_type(group, column, tasks.kind(task), check_stop)
        keys = {key for key, _ in group[0].source.partitions}
        for name in sorted(options.named_columns - keys):
            _require(group, names, name, "its option")
        if spec.title and options.title_column in names:
            _require_text(group, names, options.title_column, "--title-column", check_stop)
        if spec.entity_markers:
            _check_entity(group, names, check_stop)


def _check_duplicates(file: PlannedFile) -> None:
    duplicates = sorted(name for name, count in Counter(file.schema.names).items() if count > 1)
    if duplicates:
        raise CorpusError(
            f"{_shown(file)}: column names must be unique; duplicates: {listing(duplicates)}",
            hint="rename one of each pair",
        )


def _require(
    group: Sequence[PlannedFile], names: Collection[str], name: str, option: str | None
) -> None:
    if name in names:
        return
    close = nearest(name, names)
    guess = f"did you mean {close!r}? " if close else ""
    remedy = f"Name the column with {option}" if option else "This task marks an entity in the text"
    raise CorpusError(
        f"{_shown(group[0])}: no column {name!r}; there are {listing(group[0].schema.names)}",
        hint=guess + remedy,
    )


def _require_text(
    group: Sequence[PlannedFile],
    names: Collection[str],
    name: str,
    option: str | None,
    check_stop: CheckStop,
) -> None:
    _require(group, names, name, option)
    kind = group[0].schema.field(name).type
    if is_text(kind) or pa.types.is_null(kind):
        return
    for file in _with_values(group, name, check_stop):
        raise CorpusError(
            f"{_shown(file)}: column {name!r} is {kind}, not text",
            hint=f"name a string column with {option}" if option else "it must be a string column",
        )


def _check_gold_type(
    group: Sequence[PlannedFile], name: str, task_kind: AnyKind, check_stop: CheckStop
) -> None:
    kind = group[0].schema.field(name).type
    if task_kind.accepts_gold(kind):
        return
    for file in _with_values(group, name, check_stop):
        raise CorpusError(
            f"{_shown(file)}: gold column {name!r} is {kind}; expected {task_kind.GOLD_TYPES}",
            hint="name another column with --gold-column",
        )


def _check_entity(
    group: Sequence[PlannedFile], names: Collection[str], check_stop: CheckStop
) -> None:
    if ENTITY in names:
        _require_text(group, names, ENTITY, None, check_stop)
    for name in (START, END):
        _require(group, names, name, None)
        kind = group[0].schema.field(name).type
        numbers = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal, is_text)
        if pa.types.is_null(kind) or any(matches(kind) for matches in numbers):
            continue  # a value that is not a whole number quarantines only its row
        for file in _with_values(group, name, check_stop):
            raise CorpusError(
                f"{_shown(file)}: column {name!r} is {kind}; character offsets are integers",
                hint="write the offsets as integers",
            )


def _with_values(
    group: Sequence[PlannedFile], name: str, check_stop: CheckStop
) -> Sequence[PlannedFile]:
    """The first file with a value in the column, if any: a column of nulls may have any type."""
    return next(((file,) for file in group if not only_nulls(file, name, check_stop)), ())


def _shown(file: PlannedFile) -> str:
    return printable(file.source.name)
