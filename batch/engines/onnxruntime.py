"""Sessions of onnxruntime, on a CPU or on CUDA."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from batch.engines.buffers import BoundBuffers
from batch.engines.graph_file import GraphFile
from batch.engines.pool import Pool
from batch.machine.cores import streams_of, usable_cores
from batch.machine.device import FATAL_ONLY, Device, import_engine
from schemas.arrays import Float32Array, Int64Array
from schemas.errors import BundleError, DeviceError
from schemas.printable import one_line


class OnnxruntimeSession:
    """See `batch.engines.EngineSession`."""

    def __init__(self, graph: GraphFile, device: Device, *, threads: int) -> None:
        self._label = graph.label
        engine = import_engine()
        threads = threads or usable_cores()
        # Two runs of a session at the same time gave wrong scores for whole batches on CUDA.
        self.streams = streams_of(threads) if device.kind == "cpu" else 1
        # Calling threads compute, too, each its own batch; the session's threads help all of them.
        self._session = _open(engine, graph, device, threads - self.streams + 1)
        provider = self._session.get_providers()[0]
        if provider != device.provider:
            raise DeviceError(
                f"{graph.label}: requested {device.provider}, got {provider}",
                hint="`batch-classify doctor` checks the installation",
            )
        # onnxruntime caches cuDNN's attention plans per thread. A new thread would build them again
        # for every shape, 50 ms each, so one thread runs the GPU for the lifetime of the session.
        self._thread = (
            ThreadPoolExecutor(1, thread_name_prefix="cuda") if device.kind == "cuda" else None
        )
        columns = self.columns
        self.buffers = Pool(lambda: BoundBuffers(engine, self._session, device, columns))

    @property
    def columns(self) -> Mapping[str, int]:
        """Width of each output."""
        return {output.name: _columns(output.shape) for output in self._session.get_outputs()}

    @property
    def props(self) -> Mapping[str, str]:
        """Metadata of the file. Raises BundleError if it is not UTF-8."""
        try:
            props: Mapping[str, str] = self._session.get_modelmeta().custom_metadata_map
        except UnicodeDecodeError as error:
            raise BundleError(
                f"{self._label}: its metadata is not UTF-8: {error}",
                hint="export the checkpoint again",
            ) from error
        return props

    def run(
        self, input_ids: Int64Array, attention_mask: Int64Array, outputs: Sequence[str]
    ) -> list[Float32Array]:
        """Run one batch, see `batch.engines.EngineSession`."""
        if self._thread is None:
            return self._run(input_ids, attention_mask, outputs)
        return self._thread.submit(self._run, input_ids, attention_mask, outputs).result()

    def _run(
        self, input_ids: Int64Array, attention_mask: Int64Array, outputs: Sequence[str]
    ) -> list[Float32Array]:
        with self.buffers.borrowed() as buffers:
            return buffers.run(input_ids, attention_mask, outputs)


def provider_options(device: Device) -> dict[str, str]:
    """Options of onnxruntime's execution provider; empty for a CPU.

    onnxruntime-gpu has had all of them since 1.18.
    """
    if device.kind != "cuda":
        return {}
    options = {
        "device_id": str(device.index),
        # Grow by what a shape needs, not to a power of two: shapes repeat, so it grows rarely.
        "arena_extend_strategy": "kSameAsRequested",
        # A search would time the convolution algorithms and could choose another one in every run.
        "cudnn_conv_algo_search": "DEFAULT",
        # With 0, copies may overtake the computation (onnxruntime issue 4829).
        "do_copy_in_default_stream": "1",
        # Matmuls in fp32 keep their 24-bit mantissa, as on a CPU.
        "use_tf32": "0",
    }
    if device.memory_bytes is not None:
        options["gpu_mem_limit"] = str(device.memory_bytes)
    return options


def _columns(shape: Sequence[object]) -> int:
    """The last dimension; 0 where there is none, or it is dynamic."""
    return shape[-1] if shape and isinstance(shape[-1], int) else 0


def _open(engine: Any, graph: GraphFile, device: Device, threads: int) -> Any:
    options = engine.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.use_deterministic_compute = True
    options.log_severity_level = FATAL_ONLY  # every error is raised, too
    # A memory pattern would be stored for every canonical shape.
    options.enable_mem_pattern = False
    # Threads that spin between batches would occupy the core that reads and tokenizes.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Not onnxruntime's own format, which `check_onnx` cannot check.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    content = graph.content()
    try:
        # `enable_fallback=0`: a provider that fails must not be replaced by the CPU. Node-level
        # `session.disable_cpu_ep_fallback` would refuse every dynamic graph, because onnxruntime
        # keeps shape arithmetic on the CPU on purpose.
        session = engine.InferenceSession(
            content,
            sess_options=options,
            providers=[(device.provider, provider_options(device))],
            enable_fallback=0,
            read_config_from_model=0,  # no environment variable may make the file set options
        )
    except Exception as error:  # onnxruntime has no common base class for its errors
        raise BundleError(
            f"{graph.label}: onnxruntime cannot open it on {device.name}: {one_line(error)}",
            hint="is it an ONNX file made by export-classifier?",
        ) from error
    # onnxruntime keeps the content to open it again with other providers, which is not used here.
    session._model_bytes = None
    return session
