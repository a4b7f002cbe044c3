"""ONNX engines behind one small interface: a file goes in, something that runs it comes out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Protocol

from batch.device import Device, installed_engines
from schemas.decision import FloatArray
from schemas.tokens import InputArray
from schemas.variants import ENGINE_OF, Precision


class EngineSession(Protocol):
    """A graph that is open.

    columns: width of each output by name, 0 where the graph does not say.
    props: `metadata_props` of the file.
    """

    @property
    def columns(self) -> Mapping[str, int]: ...
    @property
    def props(self) -> Mapping[str, str]: ...

    def run(
        self, input_ids: InputArray, attention_mask: InputArray, outputs: Sequence[str]
    ) -> list[FloatArray]:
        """Both (rows, seq) int64. Returns the outputs asked for, (rows, columns) float32 each."""
        ...


def open_engine(
    path: Path, device: Device, *, precision: Precision, threads: int = 0
) -> EngineSession:
    """Open a graph with the engine that runs this precision.

    threads: 0 takes every core that this process may use. Outputs do not depend on it.
    Raises BundleError if the file cannot be opened, DeviceError if the engine or the device cannot
    be had.
    """
    if ENGINE_OF[precision] == "openvino":
        from batch.engines.openvino import OpenvinoSession

        return OpenvinoSession(path, device, precision=precision, threads=threads)
    from batch.engines.onnxruntime import OnnxruntimeSession

    return OnnxruntimeSession(path, device, threads=threads)


def engine_versions(precision: Precision) -> dict[str, str]:
    """Version of the package, or packages, that run a precision; scores depend on it."""
    engine = ENGINE_OF[precision]
    return installed_engines() if engine == "onnxruntime" else {engine: version(engine)}
