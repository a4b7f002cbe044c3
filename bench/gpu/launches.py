"""Time of a batch on a GPU, and what of it is waiting: for launches, for copies, for the host.

`product` is what `batch-classify` does; `waiting` leaves out the copies; `queued` launches every
batch before the first has ended; `graph` replays a CUDA graph of the shape.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from batch.engines.buffers import BoundBuffers
from batch.engines.graph_file import GraphFile
from batch.engines.onnxruntime import provider_options
from batch.machine.device import Device, import_engine
from bench.gpu.steps import Facts

SEQ = (64, 128, 256, 512)
BATCH_TOKENS = (8192, 16384, 32768)
RUNS = 40


def launch_times(graph: GraphFile, device: Device) -> Facts:
    """Milliseconds of a batch by its shape and by how it is run."""
    engine = import_engine()
    modes: dict[str, dict[str, float]] = {}
    plain = _session(engine, graph, device)
    for tokens in BATCH_TOKENS:
        for seq in SEQ:
            shape = (tokens // seq, seq)
            modes[f"{shape[0]} x {seq}"] = _times_of_shape(engine, plain, device, shape)
    try:
        graphs = _session(engine, graph, device, enable_cuda_graph="1")
        for number, (name, times) in enumerate(modes.items(), 1):
            rows, seq = map(int, name.split(" x "))
            times["graph"] = _graph_time(engine, graphs, device, (rows, seq), number)
    except Exception as error:  # an experiment: whatever onnxruntime says is its result
        return {"ms": modes, "graph": f"failed: {error}"[:600]}
    return {"ms": modes, "graph": "ran"}


def _session(engine: Any, graph: GraphFile, device: Device, **more: str) -> Any:
    options = engine.SessionOptions()
    options.intra_op_num_threads = 1
    options.enable_mem_pattern = False
    options.log_severity_level = 3
    return engine.InferenceSession(
        graph.content(),
        sess_options=options,
        providers=[(device.provider, {**provider_options(device), **more})],
        enable_fallback=0,
    )


def _times_of_shape(
    engine: Any, session: Any, device: Device, shape: tuple[int, int]
) -> dict[str, float]:
    columns = {output.name: output.shape[-1] for output in session.get_outputs()}
    buffers = BoundBuffers(engine, session, device, columns)
    ids, mask = _inputs(shape)
    product = _milliseconds(lambda: buffers.run(ids, mask, list(columns)))
    binding = _binding(engine, session, device, shape)
    waiting = _milliseconds(lambda: session.run_with_iobinding(binding))
    unsynchronized = engine.RunOptions()
    unsynchronized.add_run_config_entry("disable_synchronize_execution_providers", "1")

    def queued() -> None:
        for _ in range(RUNS):
            session.run_with_iobinding(binding, unsynchronized)
        binding.synchronize_outputs()

    return {
        "product": product,
        "waiting": waiting,
        "queued": round(_milliseconds(queued, runs=1) / RUNS, 4),
    }


def _graph_time(
    engine: Any, session: Any, device: Device, shape: tuple[int, int], number: int
) -> float:
    binding = _binding(engine, session, device, shape)
    options = engine.RunOptions()
    options.add_run_config_entry("gpu_graph_id", str(number))
    return _milliseconds(lambda: session.run_with_iobinding(binding, options))


def _binding(engine: Any, session: Any, device: Device, shape: tuple[int, int]) -> Any:
    binding = session.io_binding()
    feeds: Mapping[str, Any] = dict(
        zip(("input_ids", "attention_mask"), _inputs(shape), strict=True)
    )
    for name, array in feeds.items():
        value = engine.OrtValue.ortvalue_from_numpy(array, device.kind, device.index)
        binding.bind_ortvalue_input(name, value)
    for output in session.get_outputs():
        value = engine.OrtValue.ortvalue_from_shape_and_type(
            [shape[0], output.shape[-1]], np.float32, device.kind, device.index
        )
        binding.bind_ortvalue_output(output.name, value)
    return binding


def _inputs(shape: tuple[int, int]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Token ids and mask, (rows, seq) int64; the last eighth of each row is padding."""
    ids = np.random.default_rng(0).integers(1000, 20000, shape)
    mask = np.ones(shape, np.int64)
    mask[:, shape[1] - shape[1] // 8 :] = 0
    return ids, mask


def _milliseconds(function: Callable[[], object], runs: int = RUNS) -> float:
    """Mean wall time of a call, after three to warm up."""
    for _ in range(3):
        function()
    started = time.perf_counter()
    for _ in range(runs):
        function()
    return round(1000 * (time.perf_counter() - started) / runs, 4)
