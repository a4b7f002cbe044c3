"""One exported task, opened in onnxruntime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from batch.device import Device, import_engine
from batch.onnx_file import refuse_external_data
from schemas.decision import FloatArray
from schemas.errors import BundleError, DeviceError
from schemas.metadata import ArtefactMetadata
from schemas.tokens import InputArray


class TaskSession:
    """A loaded ONNX file.

    threads: intra-op threads; 0 lets onnxruntime choose. Logits do not depend on it.
    Raises BundleError if the file cannot be opened or keeps weights elsewhere, DeviceError if the
    session ends up on another device than asked for.
    """

    def __init__(self, path: Path, device: Device, *, threads: int = 0) -> None:
        refuse_external_data(path)
        self.path = path
        self.device = device
        self._session = _open(import_engine(), path, device, threads)
        got = self._session.get_providers()[0]
        if got != device.provider:
            raise DeviceError(
                f"{path}: asked for {device.provider}, got {got}",
                hint="`batch-classify doctor` checks the installation",
            )

    def metadata(self) -> ArtefactMetadata:
        """What the file says of itself. Raises BundleError if that is missing or not valid."""
        props = self._session.get_modelmeta().custom_metadata_map
        metadata = ArtefactMetadata.from_props(props, source=str(self.path))
        columns = self._session.get_outputs()[0].shape[-1]
        if columns != len(metadata.labels):
            raise BundleError(
                f"{self.path}: the graph has {columns} outputs and its metadata "
                f"{len(metadata.labels)} labels",
                hint="export the checkpoint again",
            )
        return metadata

    def run(self, input_ids: InputArray, attention_mask: InputArray) -> FloatArray:
        """Both (rows, seq) int64. Returns logits, (rows, labels) float32."""
        feeds = {"input_ids": input_ids, "attention_mask": attention_mask}
        (logits,) = self._session.run(["logits"], feeds)
        return np.asarray(logits, dtype=np.float32)


def _open(engine: Any, path: Path, device: Device, threads: int) -> Any:
    options = engine.SessionOptions()
    options.intra_op_num_threads = threads
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
