"""Decisions about two-level labels: a fine label is decided only with its coarse one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from schemas.arrays import BoolArray, Float32Array
from schemas.tasks.parents import Parents


@dataclass(frozen=True)
class LabelTree:
    """Columns of the coarse labels that have fine ones, each with the columns of those.

    Both methods leave labels of one level as they are, and depend on each row alone, to the bit.
    """

    children: tuple[tuple[int, tuple[int, ...]], ...] = ()

    @classmethod
    def of(cls, labels: Sequence[str], parents: Parents) -> Self:
        """The tree of a task's labels. Raises KeyError for parents that are not among them."""
        column = {label: index for index, label in enumerate(labels)}
        children: dict[int, list[int]] = defaultdict(list)
        for fine, coarse in parents.items():
            children[column[coarse]].append(column[fine])
        return cls(tuple((coarse, tuple(sorted(children[coarse]))) for coarse in sorted(children)))

    @property
    def fine(self) -> tuple[int, ...]:
        """Columns of the labels that have a parent; the others are coarse."""
        return tuple(sorted(fine for _, columns in self.children for fine in columns))

    def probabilities(self, probabilities: Float32Array) -> Float32Array:
        """Raise each coarse label to the most probable of its fine ones, (rows, labels) float32.

        The maximum of the label's own probability and those below it: the max constraint module of
        Giunchiglia and Lukasiewicz (2020), "Coherent Hierarchical Multi-Label Classification
        Networks" (NeurIPS). A coarse label is never less probable than its fine ones.
        """
        if not self.children:
            return probabilities
        raised = probabilities.copy()
        for coarse, fine in self.children:
            raised[:, coarse] = probabilities[:, [coarse, *fine]].max(axis=1)
        return raised

    def decisions(self, decided: BoolArray) -> BoolArray:
        """Give each row the coarse labels of its fine ones, (rows, labels) bool.

        A coarse label may have a higher threshold than a fine one. The fine label then decides:
        its evidence is more specific, and taking it away would lose an answer that its own
        threshold was fitted for.
        """
        if not self.children:
            return decided
        closed = decided.copy()
        for coarse, fine in self.children:
            closed[:, coarse] = decided[:, [coarse, *fine]].any(axis=1)
        return closed


ONE_LEVEL = LabelTree()
"""The tree of a task without parents."""
