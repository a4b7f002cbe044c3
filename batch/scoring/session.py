"""An exported file, opened by the engine that runs its precision."""

from __future__ import annotations

import numpy as np

from batch.engines import open_engine, open_fastest
from batch.engines.graph_file import GraphFile
from batch.machine.device import Device
from schemas.arrays import Float32Array, Int64Array
from schemas.bundle.folder import Bundle
from schemas.bundle.metadata import ArtefactMetadata, check_shared, check_task, shared_from_props
from schemas.bundle.variants import EngineName, Precision
from schemas.errors import BundleError
from schemas.printable import one_line

INPUTS = ("input_ids", "attention_mask")

LOGITS = "logits"
"""Output of a file of one task."""


def task_logits(task: str) -> str:
    """Output of a task in a file that several share."""
    return f"{LOGITS}.{task}"


class TaskSession:
    """A loaded ONNX file.

    threads: 0 takes every core that this process may use. Logits do not depend on it.
    tasks: those of a shared file that are wanted, in this order; none for the file of one task.
    engine: None takes the fastest that can run the file here.
    streams: how many batches are best run at the same time, each from a thread of its own.
    Raises BundleError if the file cannot be opened or keeps weights elsewhere, DeviceError if the
    session ends up on another device than asked for, or the engine is not available.
    """

    def __init__(
        self,
        graph: GraphFile,
        device: Device,
        *,
        threads: int = 0,
        precision: Precision = "fp32",
        tasks: tuple[str, ...] = (),
        engine: EngineName | None = None,
    ) -> None:
        self.graph = graph
        self.device = device
        self.precision = precision
        self._tasks = tasks
        self._outputs = [task_logits(task) for task in tasks] or [LOGITS]
        self.engine, self._engine = (
            open_fastest(graph, device, precision=precision, threads=threads)
            if engine is None
            else (engine, open_engine(graph, device, engine, precision=precision, threads=threads))
        )
        self.streams = self._engine.streams
        self._columns = self._engine.columns

    def metadata(self) -> ArtefactMetadata:
        """What the file of one task says of itself in this precision.

        Raises BundleError if that is missing or not valid, or if the file is not for it.
        """
        metadata = ArtefactMetadata.from_props(self._engine.props, source=self.graph.label)
        return self._in_this_precision(metadata, LOGITS)

    def described(self) -> dict[str, ArtefactMetadata]:
        """What the file says of every task that it has, by task; raises as `metadata` does."""
        shared = shared_from_props(self._engine.props, source=self.graph.label)
        if shared:
            return shared
        metadata = ArtefactMetadata.from_props(self._engine.props, source=self.graph.label)
        return {metadata.task: metadata}

    def task_metadata(self) -> tuple[ArtefactMetadata, ...]:
        """What the file says of each task that is wanted; raises as `metadata` does."""
        if not self._tasks:
            return (self.metadata(),)
        stored = self.described()
        missing = [task for task in self._tasks if task not in stored]
        if missing:
            raise BundleError(
                f"{self.graph.label}: says nothing of task {missing[0]!r}",
                hint="export the checkpoint again",
            )
        tasks = tuple(
            self._in_this_precision(stored[task], task_logits(task)) for task in self._tasks
        )
        check_shared(tasks, source=self.graph.label)
        return tasks

    def metadata_of(self, tasks: tuple[str, ...]) -> tuple[ArtefactMetadata, ...]:
        """What the file says of the tasks that a manifest maps to it; raises as `metadata` does.

        Raises BundleError too if it is the file of another task.
        """
        described = self.task_metadata()
        for task, metadata in zip(tasks, described, strict=True):
            check_task(metadata, task, source=self.graph.label)
        return described

    def run(self, input_ids: Int64Array, attention_mask: Int64Array) -> Float32Array:
        """Both (rows, seq) int64. May be called from several threads at once.

        Returns logits, (rows, labels) float32; with several tasks their labels side by side.
        Raises BundleError if the engine fails, or returns something else, MemoryError as it is.
        """
        try:
            found = self._engine.run(input_ids, attention_mask, self._outputs)
        except MemoryError:
            raise
        except Exception as error:  # engines have no common base class for their errors
            raise BundleError(
                f"{self.graph.label}: cannot be run on {self.device.name} with "
                f"{input_ids.shape[0]} rows of {input_ids.shape[1]} tokens: {one_line(error)}",
                hint="export the checkpoint again; if memory ran out, lower --max-tokens-per-batch",
            ) from error
        for output, logits in zip(self._outputs, found, strict=True):
            self._check_shape(output, logits, rows=len(input_ids))
        return found[0] if len(found) == 1 else np.concatenate(found, axis=1)

    def _check_shape(self, output: str, logits: Float32Array, *, rows: int) -> None:
        """A graph may say one shape and make another."""
        columns = self._columns.get(output, 0)
        if logits.ndim != 2 or len(logits) != rows or columns not in (0, logits.shape[1]):
            raise BundleError(
                f"{self.graph.label}: {output} has the shape {logits.shape} for {rows} rows and "
                f"{columns} labels",
                hint="export the checkpoint again",
            )

    def _in_this_precision(self, metadata: ArtefactMetadata, output: str) -> ArtefactMetadata:
        columns = self._columns.get(output, 0)
        if columns != len(metadata.labels):
            raise BundleError(
                f"{self.graph.label}: the graph has {columns} outputs and its metadata "
                f"{len(metadata.labels)} labels",
                hint="export the checkpoint again",
            )
        try:
            return metadata.at(self.precision)
        except KeyError:
            raise BundleError(
                f"{self.graph.label}: is in {metadata.precision} and not for {self.precision}",
                hint="export the checkpoint again",
            ) from None


def open_session(
    bundle: Bundle,
    tasks: str | tuple[str, ...],
    device: Device,
    *,
    precision: Precision,
    engine: EngineName | None = None,
    threads: int = 0,
) -> tuple[TaskSession, tuple[ArtefactMetadata, ...]]:
    """Open the graph of a task of a bundle, or of tasks that share one, and what it says of each.

    Raises UsageError for what the bundle does not have, else as `TaskSession` and `metadata_of` do.
    """
    names = (tasks,) if isinstance(tasks, str) else tasks
    session = TaskSession(
        GraphFile.of_bundle(bundle, names, precision),
        device,
        threads=threads,
        precision=precision,
        engine=engine,
        tasks=names if len(names) > 1 else (),
    )
    return session, session.metadata_of(names)
