"""One exported task, opened by the engine that runs its precision."""

from __future__ import annotations

from pathlib import Path

from batch.device import Device
from batch.engines import open_engine
from batch.onnx_file import refuse_external_data
from schemas.decision import FloatArray
from schemas.errors import BundleError
from schemas.metadata import ArtefactMetadata
from schemas.tokens import InputArray
from schemas.variants import Precision

LOGITS = "logits"


class TaskSession:
    """A loaded ONNX file.

    threads: 0 takes every core that this process may use. Logits do not depend on it.
    Raises BundleError if the file cannot be opened or keeps weights elsewhere, DeviceError if the
    session ends up on another device than asked for, or the engine cannot be had.
    """

    def __init__(
        self, path: Path, device: Device, *, threads: int = 0, precision: Precision = "fp32"
    ) -> None:
        refuse_external_data(path)
        self.path = path
        self.device = device
        self.precision = precision
        self._engine = open_engine(path, device, precision=precision, threads=threads)

    def metadata(self) -> ArtefactMetadata:
        """What the file says of itself in this precision.

        Raises BundleError if that is missing or not valid, or if the file is not for it.
        """
        metadata = ArtefactMetadata.from_props(self._engine.props, source=str(self.path))
        columns = self._engine.columns.get(LOGITS)
        if columns != len(metadata.labels):
            raise BundleError(
                f"{self.path}: the graph has {columns} outputs and its metadata "
                f"{len(metadata.labels)} labels",
                hint="export the checkpoint again",
            )
        try:
            return metadata.at(self.precision)
        except KeyError:
            raise BundleError(
                f"{self.path}: is in {metadata.precision} and not for {self.precision}",
                hint="export the checkpoint again",
            ) from None

    def run(self, input_ids: InputArray, attention_mask: InputArray) -> FloatArray:
        """Both (rows, seq) int64. Returns logits, (rows, labels) float32."""
        return self._engine.run(input_ids, attention_mask, [LOGITS])[0]
