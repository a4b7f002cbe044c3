"""ONNX engines behind one interface: a graph file is opened as a session."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Protocol

from batch.engines.graph_file import GraphFile
from batch.engines.openvino import openvino_problem
from batch.machine.device import Device
from batch.machine.memory import is_out_of_memory
from schemas.arrays import Float32Array, Int64Array
from schemas.bundle.variants import PRECISION_SPECS, EngineName, Precision
from schemas.errors import BundleError

log = logging.getLogger(__name__)


class EngineSession(Protocol):
    """An open graph.

    streams: number of batches to run at the same time, each from its own thread.
    columns: width of each output by name, 0 where the graph does not define it.
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
        """Run one batch. May be called from several threads at once.

        input_ids, attention_mask: (rows, seq) int64. outputs: names of the outputs to compute.
        Returns these outputs, (rows, columns) float32 each.
        """
        ...


def usable_engines(precision: Precision, device: Device) -> tuple[EngineName, ...]:
    """Engines that can run a precision on a device here, the fastest first."""
    if device.kind == "cuda":
        return ("onnxruntime",)
    return tuple(
        engine
        for engine in PRECISION_SPECS[precision].engines
        if engine_problem(engine, precision) is None
    )


def slower_engines(
    engine: EngineName, precision: Precision, device: Device
) -> tuple[EngineName, ...]:
    """Engines slower than the one that runs a file here; the faster ones could not open it."""
    engines = usable_engines(precision, device)
    return engines[engines.index(engine) + 1 :]


def engine_problem(engine: EngineName, precision: Precision) -> str | None:
    """Reason why an engine cannot run a precision on this CPU, or None if it can."""
    return openvino_problem(precision) if engine == "openvino" else None


def open_fastest(
    graph: GraphFile, device: Device, *, precision: Precision, threads: int = 0
) -> tuple[EngineName, EngineSession]:
    """Open a graph with the fastest engine that supports it, as `open_engine` does.

    An engine may lack an operation of the graph; the next one is tried then. The choice is the same
    in every run of a file.
    """
    *faster, slowest = usable_engines(precision, device) or PRECISION_SPECS[precision].engines
    for engine in faster:
        try:
            return engine, open_engine(graph, device, engine, precision=precision, threads=threads)
        except BundleError as error:
            if is_out_of_memory(error):  # a run with more memory would choose the faster engine
                raise
            log.debug("%s", error)
    return slowest, open_engine(graph, device, slowest, precision=precision, threads=threads)


def open_engine(
    graph: GraphFile, device: Device, engine: EngineName, *, precision: Precision, threads: int = 0
) -> EngineSession:
    """Open a graph with an engine, in a precision.

    threads: 0 takes every core that this process may use. Outputs do not depend on it.
    Raises BundleError if the file cannot be opened, DeviceError if the engine or the device is not
    available.
    """
    if engine == "openvino":
        from batch.engines.openvino import OpenvinoSession

        return OpenvinoSession(graph, device, precision=precision, threads=threads)
    from batch.engines.onnxruntime import OnnxruntimeSession

    return OnnxruntimeSession(graph, device, threads=threads)
