"""Sessions of OpenVINO on a CPU, in bfloat16 where the file leaves the precision open."""

from __future__ import annotations

import io
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from batch.engines.graph_file import GraphFile
from batch.engines.pool import Pool
from batch.machine.cores import streams_of, usable_cores
from batch.machine.device import Device
from schemas.arrays import Float32Array, Int64Array
from schemas.bundle.props import PREFIX
from schemas.bundle.variants import Precision
from schemas.errors import BundleError, DeviceError
from schemas.printable import one_line

REQUIRED_CAPABILITY: dict[Precision, str] = {"fp32": "FP32", "bf16": "BF16", "int8": "INT8"}
"""OpenVINO's name of the processor capability that a precision needs; without it OpenVINO would
silently compute in another precision."""


def openvino_problem(precision: Precision) -> str | None:
    """Reason why OpenVINO cannot run a precision here, or None if it can."""
    try:
        core = _core()
    except ImportError as error:
        return f"OpenVINO is not installed ({error}; extra `openvino`)"
    if REQUIRED_CAPABILITY[precision] not in _capabilities(core):
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
        self._requests: Pool[Any] = Pool(compiled.create_infer_request)
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
        """Run one batch, see `batch.engines.EngineSession`."""
        with self._requests.borrowed() as request:
            request.infer({"input_ids": input_ids, "attention_mask": attention_mask})
            # Copied, because the next batch overwrites the tensor.
            arrays = [np.array(request.get_tensor(name).data, dtype=np.float32) for name in outputs]
            if len(input_ids) and any(array.size == 0 for array in arrays):
                # Observed when memory runs out: OpenVINO raises nothing and outputs are empty.
                raise MemoryError("OpenVINO returned empty outputs, as when memory runs out")
        return arrays


def import_openvino() -> Any:
    """Import OpenVINO without its usage statistics. Raises ImportError if it is not installed.

    Importing it would otherwise start a thread that reports the import over the network, and nncf
    reports what it quantizes. Both report nothing if `openvino_telemetry` cannot be imported.
    """
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    import openvino

    return openvino


def _core() -> Any:
    return import_openvino().Core()


def _capabilities(core: Any) -> Sequence[str]:
    """Capabilities of the processor, by OpenVINO's names."""
    capabilities: Sequence[str] = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return capabilities


def _inference_precision(core: Any, precision: Precision) -> str:
    """Precision of the matmuls that the file leaves open, which are some even in int8 files.

    With AVX-512 but no bf16 instructions OpenVINO would emulate bf16, slower than fp32.
    """
    if precision == "fp32" or "BF16" not in _capabilities(core):
        return "f32"
    return "bf16"


def _compile(graph: GraphFile, precision: Precision, threads: int, streams: int) -> tuple[Any, Any]:
    core = _core()
    # The first array that OpenVINO receives initializes its NumPy bridge. Two threads that do this
    # at the same time deadlock: one has the GIL, the other the lock of the bridge.
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
    """Read a model as ONNX and in no other format. Closes the stream.

    `Core.read_model` would detect the format by the content: an OpenVINO IR under any name loads
    its weights from the `.bin` beside it, which no hash covers.
    """
    from openvino.frontend import FrontEndManager

    frontend = FrontEndManager().load_by_framework("onnx")
    loaded = frontend.load(stream)
    stream.close()  # frees the file before the weights are copied once more
    return frontend.convert(loaded)


def _columns(shape: Any) -> int:
    """The last dimension; 0 where there is none, or it is dynamic."""
    if shape.rank.is_dynamic or shape.rank.get_length() == 0 or shape[-1].is_dynamic:
        return 0
    return int(shape[-1].get_length())


def _read_props(model: Any, graph: GraphFile) -> dict[str, str]:
    """Metadata of an ONNX file, which OpenVINO exposes under `framework`.

    Raises BundleError if it is not UTF-8.
    """
    if not model.has_rt_info("framework"):
        return {}
    try:
        props: Mapping[str, str] = model.get_rt_info("framework").value
    except UnicodeDecodeError as error:
        raise BundleError(
            f"{graph.label}: its metadata is not UTF-8: {error}", hint="export the checkpoint again"
        ) from error
    return {key: value for key, value in props.items() if key.startswith(PREFIX)}
