"""Names of pass-through columns, which must be unique for case-insensitive readers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from batch.corpus.tasks import RunTasks
from batch.corpus.types.output_types import nested_names
from batch.corpus.types.uses import Use
from schemas.errors import CorpusError, listing
from schemas.tables import name_key


def check_names(uses: Mapping[str, Sequence[Use]], tasks: RunTasks) -> None:
    """Refuse names that are the same to Spark and DuckDB, which ignore case.

    Raises CorpusError with file and column.
    """
    _check_reserved(uses, tasks)
    seen: dict[str, str] = {}
    for name, column_uses in uses.items():
        for use in column_uses:
            renamed = tasks.output_name(use.name) != use.name
            if renamed and any(same.name == name for same in column_uses):
                raise CorpusError(
                    f"{use.where}: the gold column {use.name!r} becomes {name!r}, which exists "
                    "already",
                    hint="rename one of the two",
                )
            for names in nested_names(use.type):
                check_fields(names, use)
        first_name = seen.setdefault(name_key(name), name)
        if first_name != name:
            first, second = uses[first_name][0], column_uses[0]
            where = first.where if first.files == second.files else f"{first.where}, {second.where}"
            raise CorpusError(
                f"{where}: columns {first.name!r} and {second.name!r} differ only in case, which "
                "Spark and DuckDB ignore",
                hint="rename or drop one of the two",
            )


def check_fields(names: Sequence[str], use: Use) -> None:
    """Refuse a struct with fields whose names are equal or differ only in case."""
    seen: dict[str, str] = {}
    for name in names:
        if name_key(name) in seen:
            raise CorpusError(
                f"{use.where}: column {use.name!r} has the fields {seen[name_key(name)]!r} and "
                f"{name!r}, which are the same name to Spark",
                hint="rename or drop one of the two",
            )
        seen[name_key(name)] = name


def _check_reserved(uses: Mapping[str, Sequence[Use]], tasks: RunTasks) -> None:
    """Refuse columns with names that predictions add, or that differ from those only in case."""
    reserved = {name_key(name) for name in tasks.reserved}
    conflicts = [name for name in uses if name_key(name) in reserved]
    if not conflicts:
        return
    first = uses[conflicts[0]][0]
    in_first = [name for name in conflicts if any(use.files == first.files for use in uses[name])]
    case = "" if conflicts[0] in tasks.reserved else "; Spark and DuckDB ignore case"
    renamed = f"{conflicts[0]!r} to {'input_' + conflicts[0]!r}"
    raise CorpusError(
        f"{first.where}: has columns that predictions add themselves: {listing(in_first)}{case}",
        hint="; ".join([f"rename them, for example {renamed}", *tasks.gold_hints(in_first)]),
    )
