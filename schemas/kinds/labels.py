"""Checks that kinds with labels share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from schemas.errors import listing


def check_label_names(names: Mapping[str, str], labels: Sequence[str] | None) -> None:
    """Raise ValueError for words of a label that is not listed. labels: None if none are."""
    unknown = sorted(set(names) - set(labels)) if labels else []
    if unknown:
        raise ValueError(f"label_names has {listing(unknown)}, which labels does not list")


def check_lengths(values_by_name: Mapping[str, Sequence[object]], labels: Sequence[str]) -> None:
    """Raise ValueError unless each has one value a label."""
    for name, values in values_by_name.items():
        if len(values) != len(labels):
            raise ValueError(f"{name} has {len(values)} values for {len(labels)} labels")
