"""The tasks of a run, and the columns that each reads and writes."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from pydantic import JsonValue

from schemas.errors import UsageError, listing, nearest
from schemas.kinds import KINDS, AnyKind
from schemas.kinds.columns import answer_column, reserved_columns
from schemas.printable import printable
from schemas.tables import GOLD_PREFIX, name_key


@dataclass(frozen=True)
class RunTasks:
    """Tasks that are scored in one pass, in the bundle's order.

    kinds: of each task, in the bundle's order.
    gold: column of the gold values by task, for tasks that have one.
    neighbours: the nearest reference texts are named, where a kind has any.
    """

    kinds: Mapping[str, str]
    gold: Mapping[str, str]
    neighbours: bool = False

    @classmethod
    def parse(
        cls, kinds: Mapping[str, str], gold_columns: Sequence[str], *, neighbours: bool = False
    ) -> RunTasks:
        """Take --gold-column apart: COLUMN for one task, TASK=COLUMN for several.

        Raises UsageError for anything else.
        """
        names = tuple(kinds)
        gold: dict[str, str] = {}
        for value in gold_columns:
            task, equals, column = value.partition("=")
            if len(names) == 1 and task != names[0]:
                task, equals, column = names[0], "=", value
            if not (equals and column) or task not in names:
                close = nearest(task, names) if equals else None
                raise UsageError(
                    f"--gold-column {value!r}: with several tasks TASK=COLUMN is expected, TASK "
                    f"one of {listing(names)}",
                    hint=f"did you mean {close}={column or 'COLUMN'}?"
                    if close
                    else f"for example --gold-column {names[0]}={column or value}",
                )
            if not KINDS[kinds[task]].HAS_LABELS:
                raise UsageError(
                    f"--gold-column {value!r}: task {task!r} is of kind {kinds[task]!r}, whose "
                    "answers are not compared with gold values"
                )
            if task in gold:
                raise UsageError(f"--gold-column {value!r}: task {task!r} has {gold[task]!r} too")
            gold[task] = column
        return cls(kinds, gold, neighbours)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the tasks."""
        return tuple(self.kinds)

    def kind(self, task: str) -> AnyKind:
        """Kind of a task."""
        return KINDS[self.kinds[task]]

    @property
    def reserved(self) -> tuple[str, ...]:
        """Columns that predictions add; a corpus may not have them."""
        return reserved_columns(self.kinds, neighbours=self.neighbours)

    def output_name(self, column: str) -> str:
        """Name that an input column takes in the predictions.

        A gold column that is called like one of decided labels gets another; case does not count.
        """
        taken = {name_key(name) for name in self._decided.values()}
        renamed = column in self.gold.values() and name_key(column) in taken
        return GOLD_PREFIX + column if renamed else column

    def gold_hints(self, columns: Collection[str]) -> list[str]:
        """What to say if such columns hold gold labels, for those that may."""
        return [
            f"if {column!r} contains gold labels, say --gold-column "
            + printable(column if len(self.names) == 1 else f"{task}={column}")
            for task, decided in self._decided.items()
            for column in columns
            if self.kind(task).HAS_LABELS
            if name_key(column) == name_key(decided)
        ]

    @property
    def _decided(self) -> dict[str, str]:
        """Name of the column of answers by task."""
        return {
            task: answer_column(task, kind, tasks=len(self.kinds))
            for task, kind in self.kinds.items()
        }

    def recorded_gold(self) -> JsonValue:
        """The gold columns as run.json names them: for one task, its column."""
        if len(self.names) == 1:
            return self.gold.get(self.names[0])
        return {**self.gold} or None
