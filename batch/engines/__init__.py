"""ONNX engines behind one small interface: a file goes in, something that runs it comes out."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Protocol

from batch.engines.graph_file import GraphFile
from batch.engines.openvino import openvino_problem
from batch.machine.device import Device
from batch.machine.memory import is_out_of_memory
from schemas.arrays import Float32Array, Int64Array
from schemas.bundle.variants import ENGINES, EngineName, Precision
from schemas.errors import BundleError

log = logging.getLogger(__name__)


class EngineSession(Protocol):
    """A graph that is open.

    streams: how many batches are best run at the same time, each from a thread of its own.
    columns: width of each output by name, 0 where the graph does not say.
    props: `metadata_props` of the file.
    """

    @property
    def streams(self) -> int: ...
    @property
    def columns(self) -> Mapping[str, int]: ...
    @property
    def props(self) -> Mapping[str, str]: ...

    def run(
        self, input_ids: Int64Array, attention_mask: Int64Array, outputs: Sequence[str]
    ) -> list[Float32Array]:
        """Both (rows, seq) int64. Returns the outputs asked for, (rows, columns) float32 each.

        May be called from several threads at once.
        """
        ...


def usable_engines(precision: Precision, device: Device) -> tuple[EngineName, ...]:
    """Those that run a precision on a device here, the fastest first."""
    if device.kind == "cuda":
        return ("onnxruntime",)
    return tuple(each for each in ENGINES[precision] if engine_problem(each, precision) is None)


def slower_engines(
    engine: EngineName, precision: Precision, device: Device
) -> tuple[EngineName, ...]:
    """Those after the one that runs a file here; the ones before it could not open the file."""
    found = usable_engines(precision, device)
    return found[found.index(engine) + 1 :]


def engine_problem(engine: EngineName, precision: Precision) -> str | None:
    """Why an engine cannot run a precision on this CPU, or None if nothing speaks against it."""
    return openvino_problem(precision) if engine == "openvino" else None


def open_fastest(
    graph: GraphFile, device: Device, *, precision: Precision, threads: int = 0
) -> tuple[EngineName, EngineSession]:
    """Open a graph with the fastest engine that can, as `open_engine` does.

    An engine may lack an operation of the graph; the next one is asked then. It is the same for
    every run of a file.
    """
    *others, last = usable_engines(precision, device) or ENGINES[precision]
    for engine in others:
        try:
            return engine, open_engine(graph, device, engine, precision=precision, threads=threads)
        except BundleError as error:
            if is_out_of_memory(error):  # another night it would be the faster one again
                raise
            log.debug("%s", error)
    return last, open_engine(graph, device, last, precision=precision, threads=threads)


def open_engine(
    graph: GraphFile, device: Device, engine: EngineName, *, precision: Precision, threads: int = 0
) -> EngineSession:
    """Open a graph with an engine, to be run in a precision.

    threads: 0 takes every core that this process may use. Outputs do not depend on it.
    Raises BundleError if the file cannot be opened, DeviceError if the engine or the device cannot
    be had.
    """
    if engine == "openvino":
        from batch.engines.openvino import OpenvinoSession

        return OpenvinoSession(graph, device, precision=precision, threads=threads)
    from batch.engines.onnxruntime import OnnxruntimeSession

    return OnnxruntimeSession(graph, device, threads=threads)
