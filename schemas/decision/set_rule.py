"""From probabilities and thresholds to the label set of a row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np

from schemas.arrays import BoolArray, Float32Array
from schemas.decision.decide import decide
from schemas.decision.levels import ONE_LEVEL, LabelTree
from schemas.tasks.parents import NO_PARENTS, Parents


class SetSize(Protocol):
    """How many labels a row has at least and at most."""

    @property
    def fewest_labels(self) -> int: ...

    @property
    def most_labels(self) -> int | None: ...


def check_set_size(size: SetSize, labels: int | None = None) -> None:
    """Raise ValueError if no set of labels has that size.

    labels: of the task, coarse labels with fine ones not counted; None if not known yet.
    """
    if size.most_labels is not None and size.most_labels < size.fewest_labels:
        raise ValueError(
            f"most_labels is {size.most_labels}, less than fewest_labels, {size.fewest_labels}"
        )
    if labels is not None and size.fewest_labels > labels:
        raise ValueError(f"fewest_labels is {size.fewest_labels}, but the task has {labels} labels")


@dataclass(frozen=True)
class SetRule:
    """Labels that reach their threshold, as few and as many as a row may have, on both levels.

    tree: of the labels. fewest, most: labels a row has; coarse labels that have fine ones do not
    count. Each row depends on itself alone, to the bit.
    """

    tree: LabelTree = ONE_LEVEL
    fewest: int = 0
    most: int | None = None

    @classmethod
    def of(cls, labels: Sequence[str], size: SetSize, parents: Parents = NO_PARENTS) -> Self:
        """The rule of a task."""
        return cls(LabelTree.of(labels, parents), size.fewest_labels, size.most_labels)

    def decide(self, probabilities: Float32Array, thresholds: Float32Array) -> BoolArray:
        """(rows, labels) probabilities and (labels,) thresholds to decisions, (rows, labels)."""
        return self.complete(decide(probabilities, thresholds), probabilities)

    def complete(self, decided: BoolArray, probabilities: Float32Array) -> BoolArray:
        """Make label sets of decisions that thresholds have made, both (rows, labels).

        Of too many labels the most probable are kept; if too few reach their threshold, the most
        probable others join them, those earlier in the task's order first among equals. Coarse
        labels then follow their fine ones.
        """
        if self.fewest or self.most is not None:
            decided = self._sized(decided, probabilities)
        return self.tree.decisions(decided)

    def _sized(self, decided: BoolArray, probabilities: Float32Array) -> BoolArray:
        """Decisions with as many counted labels as allowed, and no coarse ones of their own."""
        coarse = {column for column, _ in self.tree.children}
        counted = [column for column in range(decided.shape[1]) if column not in coarse]
        own, chances = decided[:, counted], probabilities[:, counted]
        sizes = np.clip(own.sum(axis=1), self.fewest, self.most)  # (rows,)
        # Decided ones first, then by probability; lexsort is stable, and sorts by its last key.
        order = np.lexsort((-chances, ~own), axis=1)
        sized = np.zeros_like(decided)
        chosen = np.arange(len(counted)) < sizes[:, None]  # (rows, counted), in that order
        of_order = np.zeros_like(own)
        np.put_along_axis(of_order, order, chosen, axis=1)
        sized[:, counted] = of_order
        return sized


ANY_SET = SetRule()
"""Any number of labels of one level."""
