"""From the joined output of a task to its own output and the nearest reference texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from schemas.arrays import Float32Array
from schemas.bundle.metadata import ArtefactMetadata
from schemas.decision.neighbours import Neighbours
from schemas.errors import BundleError, UsageError, listing
from schemas.kinds import KINDS


@dataclass(frozen=True)
class ReferenceNames:
    """Ids of the reference texts of a task.

    width: of the task's own output. neighbours: named for each text. ids: (references,) strings.
    """

    task: str
    width: int
    neighbours: int
    ids: pa.Array

    @classmethod
    def of(cls, metadata: ArtefactMetadata) -> ReferenceNames:
        """Those of a task that has reference texts."""
        assert metadata.references is not None
        ids = pa.array(metadata.references.ids, pa.string())
        return cls(metadata.task, metadata.output.width, metadata.references.neighbours, ids)

    def split(
        self, outputs: Sequence[Float32Array], *, source: str
    ) -> tuple[list[Float32Array], Neighbours]:
        """The task's own output of each text, (width,), and the nearest references of all texts.

        outputs: (width + 2 * neighbours,) float32 of each text. source: the file, for messages.
        Raises BundleError if the file names a reference that it does not have.
        """
        named = np.zeros((len(outputs), 2 * self.neighbours), np.float32)
        for row, output in enumerate(outputs):
            named[row] = output[self.width :]
        try:
            neighbours = Neighbours.of_outputs(named, self.ids)
        except ValueError as error:
            raise BundleError(
                f"{source}: task {self.task!r} {error}",
                hint="it is damaged; export the checkpoint again",
            ) from error
        return [output[: self.width] for output in outputs], neighbours


def require_references(tasks: Sequence[ArtefactMetadata]) -> None:
    """Raise UsageError unless one of these tasks can name the nearest reference texts."""
    if any(metadata.references is not None for metadata in tasks):
        return
    able = [name for name, kind in KINDS.items() if kind.HAS_REFERENCES]
    named = ", ".join(f"{metadata.task!r} (kind {metadata.kind!r})" for metadata in tasks)
    raise UsageError(
        f"--neighbours: no reference texts in {named}; tasks of kind {listing(able)} have them",
        hint="leave out --neighbours (in Python neighbours=True), or name such a task",
    )
