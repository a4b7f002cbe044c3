"""Two-level labels: the coarse label, or parent, of each fine label."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Protocol, runtime_checkable

from pydantic import BaseModel

from schemas.errors import listing

Parents = Mapping[str, str]
"""Coarse label by fine label. Labels that are no key are coarse, with or without fine ones."""

NO_PARENTS: Parents = MappingProxyType({})
"""Labels of one level."""


@runtime_checkable
class HasParents(Protocol):
    """Options or decision of a kind whose labels may have two levels."""

    @property
    def parents(self) -> Parents: ...


def parents_of(settings: BaseModel) -> Parents:
    """Parents in the options of a task or in its metadata; none for a kind without."""
    return settings.parents if isinstance(settings, HasParents) else NO_PARENTS


def check_parents(parents: Parents, labels: Collection[str] | None) -> None:
    """Raise ValueError unless there are exactly two levels, and all are labels of the task.

    labels: of the task; None if they are not known yet.
    """
    blank = [label for pair in parents.items() for label in pair if not label.strip()]
    if blank:
        raise ValueError("parents has a blank label; each entry is fine label = coarse label")
    for fine, coarse in parents.items():
        if coarse in parents:
            raise ValueError(
                f"parents has more than two levels: {fine!r} -> {coarse!r} -> {parents[coarse]!r}; "
                "the parent of a label must not have a parent itself"
            )
    if labels is not None:
        names = dict.fromkeys(label for pair in parents.items() for label in pair)
        unknown = [label for label in names if label not in labels]
        if unknown:
            raise ValueError(f"parents has {listing(unknown)}, which labels does not list")


def parents_among(parents: Parents, labels: Collection[str]) -> dict[str, str]:
    """Parents of those fine labels that a task has."""
    return {fine: coarse for fine, coarse in parents.items() if fine in labels}


def with_parents(labels: Sequence[str], parents: Parents) -> list[str]:
    """The labels of a row, then their parents that are not among them."""
    implied = (parents[label] for label in labels if label in parents)
    return [*labels, *dict.fromkeys(label for label in implied if label not in labels)]
