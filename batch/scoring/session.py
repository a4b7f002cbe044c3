"""An exported file, opened by the engine that runs its precision."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from batch.engines import EngineSession, open_engine, open_fastest
from batch.engines.graph_file import GraphFile
from batch.machine.device import Device
from batch.machine.memory import is_out_of_memory
from schemas.arrays import Float32Array, Int64Array
from schemas.bundle.folder import Bundle
from schemas.bundle.metadata import ArtefactMetadata, check_shared, check_task
from schemas.bundle.props import from_props, output_name
from schemas.bundle.variants import EngineName, Precision
from schemas.errors import BundleError
from schemas.kinds.base import OutputSpec
from schemas.printable import one_line

INPUTS = ("input_ids", "attention_mask")


@dataclass(frozen=True)
class OpenGraph:
    """A loaded ONNX file.

    engine: name of the engine that runs it. precision: in which it is run.
    """

    graph: GraphFile
    device: Device
    precision: Precision
    engine: EngineName
    session: EngineSession

    @classmethod
    def open(
        cls,
        graph: GraphFile,
        device: Device,
        *,
        precision: Precision = "fp32",
        engine: EngineName | None = None,
        threads: int = 0,
    ) -> OpenGraph:
        """Load a file.

        engine: None takes the fastest that can run the file here. threads: 0 takes every core that
        this process may use; outputs do not depend on it.
        Raises BundleError if the file cannot be opened or has external data, DeviceError if the
        session ends up on another device than asked for, or the engine is not available.
        """
        if engine is None:
            name, session = open_fastest(graph, device, precision=precision, threads=threads)
        else:
            name = engine
            session = open_engine(graph, device, engine, precision=precision, threads=threads)
        return cls(graph, device, precision, name, session)

    def metadata(self) -> dict[str, ArtefactMetadata]:
        """Metadata of every task of the file, by task.

        Raises BundleError if it is missing, not valid, or does not fit the graph.
        """
        tasks = from_props(self.session.props, source=self.graph.label)
        for metadata in tasks.values():
            output = task_output(metadata, tasks=len(tasks), neighbours=True)
            self._check_width(output, metadata.answer)
            if output.extra is not None:
                self._check_width(output.extra, f"{output.extra.width // 2} neighbours")
        return tasks

    def in_this_precision(self, metadata: ArtefactMetadata) -> ArtefactMetadata:
        """Metadata of a task as it decides in this precision. Raises BundleError if it does not."""
        try:
            return metadata.at(self.precision)
        except KeyError:
            raise BundleError(
                f"{self.graph.label}: is in {metadata.precision} and not for {self.precision}",
                hint="export the checkpoint again",
            ) from None

    def _check_width(self, output: OutputSpec, answer: str) -> None:
        width = self.session.columns.get(output.name, 0)
        if width != output.width:
            raise BundleError(
                f"{self.graph.label}: the graph has {width} outputs and its metadata {answer}",
                hint="export the checkpoint again",
            )


class TaskSession:
    """Tasks of an open graph, ready to run.

    outputs: of each task, with its name in this graph. streams: how many batches are best run at
    the same time, each from a thread of its own.
    """

    def __init__(self, opened: OpenGraph, outputs: Mapping[str, OutputSpec]) -> None:
        self.graph, self.device = opened.graph, opened.device
        self.precision, self.engine = opened.precision, opened.engine
        self.outputs = dict(outputs)
        self.streams = opened.session.streams
        self._session = opened.session

    def run(self, input_ids: Int64Array, attention_mask: Int64Array) -> tuple[Float32Array, ...]:
        """Run a batch; both (rows, seq) int64. May be called from several threads at once.

        Returns the output of each task, (rows, ...) float32 as its `OutputSpec` says; the extra
        output is joined to it.
        Raises MemoryError if there is too little for the batch, in RAM or on a GPU, and BundleError
        if the engine fails for another reason or returns something else.
        """
        names = [name for output in self.outputs.values() for name in output.names]
        try:
            arrays = self._session.run(input_ids, attention_mask, names)
        except Exception as error:  # engines have no common base class for their errors
            if is_out_of_memory(error):
                raise MemoryError(one_line(error)) from error
            raise BundleError(
                f"{self.graph.label}: cannot be run on {self.device.name} with "
                f"{input_ids.shape[0]} rows of {input_ids.shape[1]} tokens: {one_line(error)}",
                hint="export the checkpoint again",
            ) from error
        joined = tuple(_with_extra(arrays, self.outputs.values()))
        for output, array in zip(self.outputs.values(), joined, strict=True):
            self._check_shape(output, array, *input_ids.shape)
        return joined

    def _check_shape(self, output: OutputSpec, array: Float32Array, rows: int, seq: int) -> None:
        """A graph may declare one shape and compute another."""
        if array.shape != (rows, *output.shape(seq)):
            raise BundleError(
                f"{self.graph.label}: {output.name} has the shape {array.shape}, expected "
                f"{(rows, *output.shape(seq))}",
                hint="export the checkpoint again",
            )


def task_output(metadata: ArtefactMetadata, *, tasks: int, neighbours: bool = False) -> OutputSpec:
    """Output of a task in a graph of so many tasks.

    neighbours: with the output that names the nearest reference texts, where there is one.
    """
    output = metadata.output_with_neighbours if neighbours else metadata.output
    return output_in_graph(output, metadata.task, tasks=tasks)


def output_in_graph(output: OutputSpec, task: str, *, tasks: int) -> OutputSpec:
    """The output of a task, as a file of this task alone has it, in a graph of so many tasks."""
    extra = output.extra and output_in_graph(output.extra, task, tasks=tasks)
    return replace(output, name=output_name(output, task, tasks=tasks), extra=extra)


def _with_extra(
    arrays: Sequence[Float32Array], outputs: Iterable[OutputSpec]
) -> Iterator[Float32Array]:
    """Arrays of the outputs and of their extra outputs, joined where there is one."""
    remaining = iter(arrays)
    for output in outputs:
        array = next(remaining)
        if output.extra is None:
            yield array
        else:
            yield np.concatenate([array, next(remaining)], axis=-1)


def open_session(
    bundle: Bundle,
    tasks: tuple[str, ...],
    device: Device,
    *,
    precision: Precision,
    engine: EngineName | None = None,
    threads: int = 0,
    neighbours: bool = False,
) -> tuple[TaskSession, tuple[ArtefactMetadata, ...]]:
    """Open the graph of a task of a bundle, or of tasks that share one, with the metadata of each.

    neighbours: run the outputs that name the nearest reference texts, too.
    Raises UsageError for what the bundle does not have, else as `OpenGraph` does.
    """
    graph = GraphFile.of_bundle(bundle, tasks, precision)
    opened = OpenGraph.open(graph, device, precision=precision, engine=engine, threads=threads)
    by_task = opened.metadata()
    if len(tasks) == 1 and len(by_task) == 1:
        check_task(next(iter(by_task.values())), tasks[0], source=graph.label)
    missing = [task for task in tasks if task not in by_task]
    if missing:
        raise BundleError(
            f"{graph.label}: has no metadata of task {missing[0]!r}",
            hint="export the checkpoint again",
        )
    wanted = tuple(opened.in_this_precision(by_task[task]) for task in tasks)
    check_shared(wanted, source=graph.label)
    outputs = {
        metadata.task: task_output(metadata, tasks=len(by_task), neighbours=neighbours)
        for metadata in wanted
    }
    return TaskSession(opened, outputs), wanted
