"""Memory of a device that a graph reads from and writes to, the same for every batch of a shape."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from batch.machine.device import Device
from schemas.arrays import Float32Array, Int64Array

BufferKey = tuple[tuple[int, int], tuple[str, ...]]
"""Shape of the inputs, and the outputs asked for."""


class BoundBuffers:
    """Inputs and outputs of an onnxruntime session, allocated once for each shape.

    engine: the module onnxruntime. columns: width of each output by name.

    For one thread at a time. There are as many shapes as buckets, some twenty, so nothing is ever
    given back. A CPU takes the same way: it is no slower there, and can be tested without a GPU.
    """

    def __init__(
        self, engine: Any, session: Any, device: Device, columns: Mapping[str, int]
    ) -> None:
        self._engine, self._session = engine, session
        self._device, self._columns = device, columns
        self._bound: dict[BufferKey, _Bound] = {}

    def __len__(self) -> int:
        """How many shapes have buffers."""
        return len(self._bound)

    def run(
        self, input_ids: Int64Array, attention_mask: Int64Array, outputs: Sequence[str]
    ) -> list[Float32Array]:
        """Both (rows, seq) int64. Returns copies of the outputs, (rows, columns) float32 each."""
        rows, seq = input_ids.shape
        key = ((rows, seq), tuple(outputs))
        if key not in self._bound:
            self._bound[key] = self._bind(*key)
        return self._bound[key].run(
            self._session, {"input_ids": input_ids, "attention_mask": attention_mask}
        )

    def _bind(self, shape: tuple[int, int], outputs: tuple[str, ...]) -> _Bound:
        inputs = {name: self._allocate(shape, np.int64) for name in ("input_ids", "attention_mask")}
        results = {
            name: self._allocate((shape[0], self._columns[name]), np.float32) for name in outputs
        }
        return _Bound(self._session.io_binding(), inputs, results)

    def _allocate(self, shape: tuple[int, int], kind: type[np.generic]) -> Any:
        return self._engine.OrtValue.ortvalue_from_shape_and_type(
            list(shape), kind, self._device.kind, self._device.index
        )


class _Bound:
    """What a session is bound to for one shape. inputs, outputs: OrtValues by name."""

    def __init__(self, binding: Any, inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> None:
        self._binding, self._inputs, self._outputs = binding, inputs, outputs
        for name, value in inputs.items():
            binding.bind_ortvalue_input(name, value)
        for name, value in outputs.items():
            binding.bind_ortvalue_output(name, value)

    def run(self, session: Any, feeds: Mapping[str, Int64Array]) -> list[Float32Array]:
        for name, array in feeds.items():
            # Returns when the copy has arrived: onnxruntime waits for the stream it copies on.
            self._inputs[name].update_inplace(np.ascontiguousarray(array))
        session.run_with_iobinding(self._binding)
        self._binding.synchronize_outputs()
        # A copy: on a CPU this is a view of memory that the next batch overwrites.
        return [np.array(value.numpy(), dtype=np.float32) for value in self._outputs.values()]
