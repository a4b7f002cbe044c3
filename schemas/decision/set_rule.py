"""The label set of a row: thresholds, limits on the number of labels, two levels."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np

from schemas.arrays import BoolArray, Float32Array
from schemas.decision.decide import decide
from schemas.decision.levels import ONE_LEVEL, LabelTree
from schemas.tasks.parents import NO_PARENTS, Parents


class SetSize(Protocol):
    """Minimum and maximum number of labels per row; a maximum of 0 is no limit."""

    @property
    def fewest_labels(self) -> int: ...

    @property
    def most_labels(self) -> int: ...


def check_set_size(size: SetSize) -> None:
    """Raise ValueError if no set of labels has that size."""
    if 0 < size.most_labels < size.fewest_labels:
        raise ValueError(
            f"most_labels is {size.most_labels}, less than fewest_labels, {size.fewest_labels}"
        )


def check_enough_labels(size: SetSize, labels: Collection[str], parents: Parents) -> None:
    """Raise ValueError if a task has fewer labels than every row must have.

    Coarse labels that have fine ones do not count.
    """
    counted = set(labels) - {*parents.values()}
    if size.fewest_labels > len(counted):
        raise ValueError(
            f"fewest_labels is {size.fewest_labels}, but the task has {len(counted)} labels"
        )


def set_size_text(size: SetSize) -> str:
    """The limits in words, as in `at least 1 and at most 2 labels`; empty if there are none."""
    fewest, most = size.fewest_labels, size.most_labels
    bounds = [f"at least {fewest}"] * (fewest > 0) + [f"at most {most}"] * (most > 0)
    words = f"exactly {most}" if fewest == most else " and ".join(bounds)
    return f"{words} {'label' if (most or fewest) == 1 else 'labels'}" if bounds else ""


@dataclass(frozen=True)
class SetRule:
    """Thresholds, the number of labels per row, and levels, combined into label sets.

    tree: of the labels. fewest, most: number of labels per row, 0 for no limit; coarse labels that
    have fine ones do not count. Each row depends on itself alone, to the bit.
    """

    tree: LabelTree = ONE_LEVEL
    fewest: int = 0
    most: int = 0

    @classmethod
    def of(cls, labels: Sequence[str], size: SetSize, parents: Parents = NO_PARENTS) -> Self:
        """The rule of a task."""
        return cls(LabelTree.of(labels, parents), size.fewest_labels, size.most_labels)

    @property
    def has_limits(self) -> bool:
        """True if the number of labels is limited, so that labels depend on each other."""
        return bool(self.fewest or self.most)

    def decide(self, probabilities: Float32Array, thresholds: Float32Array) -> BoolArray:
        """(rows, labels) probabilities and (labels,) thresholds to decisions, (rows, labels)."""
        return self.complete(decide(probabilities, thresholds), probabilities)

    def complete(self, decided: BoolArray, probabilities: Float32Array) -> BoolArray:
        """Make label sets of the decisions of thresholds, both (rows, labels).

        Of too many labels the most probable remain. If there are too few, the most probable others
        are added. If every row has the same number of labels, they are the most probable ones,
        whatever their thresholds. Of equal probabilities the earlier label is first.

        A coarse label is decided with any of its fine ones. By itself it remains if none of its
        fine labels reached a threshold, and only in a task where a row may have no label.
        """
        if self.has_limits:
            decided = self._limited(decided, probabilities)
        return self.tree.decisions(decided)

    def _limited(self, decided: BoolArray, probabilities: Float32Array) -> BoolArray:
        coarse = {column for column, _ in self.tree.children}
        counted = [column for column in range(decided.shape[1]) if column not in coarse]
        reached = decided[:, counted]
        # The smallest minimum that is possible, and the largest maximum.
        fewest, most = min(self.fewest, len(counted)), self.most or len(counted)
        sizes = np.clip(reached.sum(axis=1), fewest, most)  # (rows,)
        behind = np.zeros_like(reached) if self.fewest == self.most else ~reached
        # The last key counts first, and equal labels stay in their order.
        order = np.lexsort((-probabilities[:, counted], behind), axis=1)
        first = np.arange(len(counted)) < sizes[:, None]  # (rows, counted), in that order
        limited = np.zeros_like(decided)
        np.put_along_axis(limited, np.asarray(counted, np.int64)[order], first, axis=1)
        if not self.fewest:
            for column, fine in self.tree.children:
                limited[:, column] = decided[:, column] & ~decided[:, list(fine)].any(axis=1)
        return limited


ANY_SET = SetRule()
"""Any number of labels of one level."""
