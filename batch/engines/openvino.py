"""Graphs run by OpenVINO on a CPU, in bfloat16 where the file leaves a choice."""

from __future__ import annotations

import io
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from batch.engines.graph_file import GraphFile
from batch.engines.spares import Spares
from batch.machine.cores import streams_of, usable_cores
from batch.machine.device import Device
from schemas.arrays import Float32Array, Int64Array
from schemas.bundle.props import PREFIX
from schemas.bundle.variants import Precision
from schemas.errors import BundleError, DeviceError
from schemas.printable import one_line

NEEDED: dict[Precision, str] = {"fp32": "FP32", "bf16": "BF16", "int8": "INT8"}
"""What the processor must be able to do; without it OpenVINO would silently compute otherwise."""


def openvino_problem(precision: Precision) -> str | None:
    """Why OpenVINO cannot run a precision here, or None if nothing speaks against it."""
    try:
        core = _core()
    except ImportError as error:
        return f"no OpenVINO is installed ({error}; extra `openvino`)"
    if NEEDED[precision] not in _capabilities(core):
        return f"this CPU has no instructions for {precision}"
    return None


class OpenvinoSession:
    """See `batch.engines.EngineSession`."""

    def __init__(
        self, graph: GraphFile, device: Device, *, precision: Precision, threads: int
    ) -> None:
        if device.kind != "cpu":
            raise DeviceError(
                f"{graph.label}: precision {precision} is for a CPU, not for {device.name}",
                hint="use --device cpu, or --precision fp32",
            )
        problem = openvino_problem(precision)
        if problem is not None:
            raise DeviceError(
                f"{graph.label}: precision {precision} is not available: {problem}",
                hint="pip install 'narrascan[openvino]', or use --precision fp32",
            )
        threads = threads or usable_cores()
        self.streams = streams_of(threads)
        compiled, model = _compile(graph, precision, threads, self.streams)
        self._requests: Spares[Any] = Spares(compiled.create_infer_request)
        self._columns = {
            output.get_any_name(): _columns(output.get_partial_shape()) for output in model.outputs
        }
        self._props = _read_props(model, graph)

    @property
    def columns(self) -> Mapping[str, int]:
        """Width of each output."""
        return self._columns

    @property
    def props(self) -> Mapping[str, str]:
        """Metadata of the file."""
        return self._props

    def run(
        self, input_ids: Int64Array, attention_mask: Int64Array, outputs: Sequence[str]
    ) -> list[Float32Array]:
        """Both (rows, seq) int64. Returns the outputs asked for."""
        with self._requests.borrowed() as request:
            request.infer({"input_ids": input_ids, "attention_mask": attention_mask})
            # A copy: the tensor is overwritten by the next batch.
            found = [np.array(request.get_tensor(name).data, dtype=np.float32) for name in outputs]
            if len(input_ids) and any(array.size == 0 for array in found):
                # Seen after memory was short: nothing is raised, and outputs stay empty.
                raise MemoryError("OpenVINO returned nothing, as it does when memory runs out")
        return found


def import_openvino() -> Any:
    """Import OpenVINO without its usage statistics. Raises ImportError if it is not installed.

    Importing it would otherwise start a thread that reports the import over the network, and nncf
    reports what it quantizes; both do without where `openvino_telemetry` cannot be imported.
    """
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    import openvino

    return openvino


def _core() -> Any:
    return import_openvino().Core()


def _capabilities(core: Any) -> Sequence[str]:
    """What the processor has instructions for."""
    found: Sequence[str] = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return found


def _inference_precision(core: Any, precision: Precision) -> str:
    """What OpenVINO multiplies in where the file does not say; int8 files leave some of it open.

    With AVX-512 and without bf16 OpenVINO would imitate it, slower than fp32.
    """
    if precision == "fp32" or "BF16" not in _capabilities(core):
        return "f32"
    return "bf16"


def _compile(graph: GraphFile, precision: Precision, threads: int, streams: int) -> tuple[Any, Any]:
    core = _core()
    # The first array that OpenVINO sees sets up its bridge to NumPy. Two threads that do it at the
    # same time wait for each other forever: one holds the GIL, the other the bridge's lock.
    import_openvino().Tensor(np.zeros(1))
    settings = {
        "INFERENCE_PRECISION_HINT": _inference_precision(core, precision),
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": streams,
        "ENABLE_CPU_PINNING": False,  # other processes share the cores
    }
    stream = io.BytesIO(graph.content())
    try:
        model = _read_onnx(stream)
        return core.compile_model(model, "CPU", settings), model
    except Exception as error:  # OpenVINO raises RuntimeError for everything
        raise BundleError(
            f"{graph.label}: OpenVINO cannot open it: {one_line(error)}",
            hint="is it an ONNX file made by export-classifier?",
        ) from error


def _read_onnx(stream: io.BytesIO) -> Any:
    """Read a model as ONNX and as nothing else. Closes the stream.

    `Core.read_model` would look at the content and take it for whatever format it begins like: an
    OpenVINO IR under any name loads its weights from the `.bin` beside it, which no hash covers.
    """
    from openvino.frontend import FrontEndManager

    frontend = FrontEndManager().load_by_framework("onnx")
    loaded = frontend.load(stream)
    stream.close()  # frees the file before the weights are copied once more
    return frontend.convert(loaded)


def _columns(shape: Any) -> int:
    """The last dimension; 0 where there is none, or the graph leaves it open."""
    if shape.rank.is_dynamic or shape.rank.get_length() == 0 or shape[-1].is_dynamic:
        return 0
    return int(shape[-1].get_length())


def _read_props(model: Any, graph: GraphFile) -> dict[str, str]:
    """OpenVINO files the metadata of an ONNX file under `framework`.

    Raises BundleError if it is not text.
    """
    if not model.has_rt_info("framework"):
        return {}
    try:
        stored: Mapping[str, str] = model.get_rt_info("framework").value
    except UnicodeDecodeError as error:
        raise BundleError(
            f"{graph.label}: its metadata is not UTF-8: {error}", hint="export the checkpoint again"
        ) from error
    return {key: value for key, value in stored.items() if key.startswith(PREFIX)}
