"""Graphs run by onnxruntime, on a CPU or on CUDA."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from batch.cores import usable_cores
from batch.device import Device, import_engine
from schemas.decision import FloatArray
from schemas.errors import BundleError, DeviceError
from schemas.tokens import InputArray


class OnnxruntimeSession:
    """See `batch.engines.EngineSession`."""

    def __init__(self, path: Path, device: Device, *, threads: int) -> None:
        self._path = path
        self._session = _open(import_engine(), path, device, threads)
        got = self._session.get_providers()[0]
        if got != device.provider:
            raise DeviceError(
                f"{path}: asked for {device.provider}, got {got}",
                hint="`batch-classify doctor` checks the installation",
            )

    @property
    def columns(self) -> Mapping[str, int]:
        """Width of each output."""
        return {output.name: _columns(output.shape) for output in self._session.get_outputs()}

    @property
    def props(self) -> Mapping[str, str]:
        """Metadata of the file. Raises BundleError if it is not text."""
        try:
            props: Mapping[str, str] = self._session.get_modelmeta().custom_metadata_map
        except UnicodeDecodeError as error:
            raise BundleError(
                f"{self._path}: its metadata is not UTF-8: {error}",
                hint="export the checkpoint again",
            ) from error
        return props

    def run(
        self, input_ids: InputArray, attention_mask: InputArray, outputs: Sequence[str]
    ) -> list[FloatArray]:
        """Both (rows, seq) int64. Returns the outputs asked for."""
        feeds = {"input_ids": input_ids, "attention_mask": attention_mask}
        results = self._session.run(list(outputs), feeds)
        return [np.asarray(result, dtype=np.float32) for result in results]


def _columns(shape: Sequence[object]) -> int:
    """The last dimension; 0 where there is none, or the graph leaves it open."""
    return shape[-1] if shape and isinstance(shape[-1], int) else 0


def _open(engine: Any, path: Path, device: Device, threads: int) -> Any:
    options = engine.SessionOptions()
    options.intra_op_num_threads = threads or usable_cores()
    options.inter_op_num_threads = 1
    options.use_deterministic_compute = True
    options.log_severity_level = 3
    # Canonical shapes repeat, but their memory patterns would be kept for each of them.
    options.enable_mem_pattern = False
    # Threads that spin between batches would take the core that reads and tokenises.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Its other format has its own ways to external data.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    settings = {"device_id": str(device.index)} if device.kind == "cuda" else {}
    try:
        # `enable_fallback=0`: a provider that fails must not be replaced by the CPU. Node-level
        # `session.disable_cpu_ep_fallback` would refuse every dynamic graph, because onnxruntime
        # keeps shape arithmetic on the CPU on purpose.
        return engine.InferenceSession(
            str(path),
            sess_options=options,
            providers=[(device.provider, settings)],
            enable_fallback=0,
        )
    except Exception as error:  # onnxruntime has no common base class for its errors
        raise BundleError(
            f"{path}: onnxruntime cannot open it on {device.name}: {error}",
            hint="is it an ONNX file made by export-classifier?",
        ) from error
