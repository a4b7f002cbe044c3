"""Gold that follows from what an article was made of: its stance, and the names in its text."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Self

from wording import Bank

NEUTRAL = "neutral"
MIXED = "mixed"


@dataclass(frozen=True)
class Span:
    """A name in a text; offsets count characters, end exclusive."""

    start: int
    end: int
    label: str


@dataclass(frozen=True)
class Names:
    """The names that texts of one language may contain, with the label of each."""

    labels: Mapping[str, str]
    pattern: re.Pattern[str]

    @classmethod
    def of_bank(cls, bank: Bank) -> Self:
        """Collect the names of a bank; an article before a name is not part of it."""
        persons = (" ".join(parts) for parts in product(bank.names["first"], bank.names["last"]))
        by_label: dict[str, Iterable[str]] = {
            "person": persons,
            "organisation": [*bank.names["organisation"], *bank.slots.get("org", ())],
            "place": [*bank.slots["place"], *bank.slots["city"], *bank.slots.get("region", ())],
        }
        labels = {
            name.removeprefix("the "): label
            for source in (by_label, bank.written_names)
            for label, names in source.items()
            for name in names
        }
        # The longest first: "Veldrov Regional Guard" is not the place Veldrov.
        alternatives = "|".join(map(re.escape, sorted(labels, key=len, reverse=True)))
        return cls(labels, re.compile(rf"(?<!\w)(?:{alternatives})(?!\w)"))

    def find(self, text: str) -> list[Span]:
        """Every mention, in order."""
        return [
            Span(match.start(), match.end(), self.labels[match.group()])
            for match in self.pattern.finditer(text)
        ]


def stance_of(narratives: Iterable[str], stances: Mapping[str, Sequence[str]]) -> str:
    """The stance that all narratives of an article share.

    stances: the narratives that express each stance. `neutral` without such a narrative, `mixed`
    with narratives of several stances.
    """
    asserted = set(narratives)
    expressed = [stance for stance, labels in stances.items() if asserted & set(labels)]
    return NEUTRAL if not expressed else expressed[0] if len(expressed) == 1 else MIXED
