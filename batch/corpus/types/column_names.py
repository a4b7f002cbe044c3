"""Names of pass-through columns: one name for each, for readers that do not look at case."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from batch.corpus.tasks import RunTasks
from batch.corpus.types.output_types import nested_names
from batch.corpus.types.uses import Use
from schemas.errors import CorpusError, listing
from schemas.tables import name_key


def check_names(uses: Mapping[str, Sequence[Use]], tasks: RunTasks) -> None:
    """Refuse names that Spark and DuckDB, which do not look at case, take for one.

    Raises CorpusError with file and column.
    """
    _check_reserved(uses, tasks)
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
                check_fields(names, use)
        other = seen.setdefault(name_key(name), name)
        if other != name:
            first, second = uses[other][0], of_column[0]
            where = first.where if first.files == second.files else f"{first.where}, {second.where}"
            raise CorpusError(
                f"{where}: columns {first.name!r} and {second.name!r} differ in case only, and "
                "Spark and DuckDB cannot tell them apart",
                hint="rename or drop one of the two",
            )


def check_fields(names: Sequence[str], use: Use) -> None:
    """Refuse a struct whose fields differ in case only, or not at all."""
    seen: dict[str, str] = {}
    for name in names:
        if name_key(name) in seen:
            raise CorpusError(
                f"{use.where}: column {use.name!r} has the fields {seen[name_key(name)]!r} and "
                f"{name!r}, which Spark cannot tell apart",
                hint="rename or drop one of the two",
            )
        seen[name_key(name)] = name


def _check_reserved(uses: Mapping[str, Sequence[Use]], tasks: RunTasks) -> None:
    """Refuse columns that predictions add, also where case alone differs."""
    reserved = {name_key(name) for name in tasks.reserved}
    taken = [name for name in uses if name_key(name) in reserved]
    if not taken:
        return
    first = uses[taken[0]][0]
    here = [name for name in taken if any(use.files == first.files for use in uses[name])]
    case = "" if taken[0] in tasks.reserved else "; Spark and DuckDB do not look at case"
    renamed = f"{taken[0]!r} to {'input_' + taken[0]!r}"
    raise CorpusError(
        f"{first.where}: has columns that predictions add themselves: {listing(here)}{case}",
        hint="; ".join([f"rename them, for example {renamed}", *tasks.gold_hints(here)]),
    )
