"""Device buffers for the inputs and outputs of a graph, reused for every batch of a shape."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from batch.machine.device import Device
from schemas.arrays import Float32Array, Int64Array

PER_TOKEN = 3
"""Dimensions of an output of every token."""
BufferKey = tuple[tuple[int, int], tuple[str, ...]]
"""Shape of the inputs, and names of the requested outputs."""


class BoundBuffers:
    """Input and output buffers of an onnxruntime session, allocated once for each shape.

    engine: the module onnxruntime. columns: width of each output by name.

    For one thread at a time. There are as many shapes as buckets, about twenty, so buffers are
    never freed. CPUs use them, too: that is not slower, and tests do not need a GPU.
    """

    def __init__(
        self, engine: Any, session: Any, device: Device, columns: Mapping[str, int]
    ) -> None:
        self._engine, self._session = engine, session
        self._device, self._columns = device, columns
        self._per_token = {
            output.name for output in session.get_outputs() if len(output.shape) == PER_TOKEN
        }
        self._bindings: dict[BufferKey, _ShapeBinding] = {}

    def __len__(self) -> int:
        """Number of shapes that have buffers."""
        return len(self._bindings)

    def run(
        self, input_ids: Int64Array, attention_mask: Int64Array, outputs: Sequence[str]
    ) -> list[Float32Array]:
        """Run one batch. Returns copies of the outputs, float32, of (rows, columns) or, for one of
        every token, (rows, seq, columns).

        input_ids, attention_mask: (rows, seq) int64.
        """
        rows, seq = input_ids.shape
        key = ((rows, seq), tuple(outputs))
        if key not in self._bindings:
            self._bindings[key] = self._bind(*key)
        return self._bindings[key].run(
            self._session, {"input_ids": input_ids, "attention_mask": attention_mask}
        )

    def _bind(self, shape: tuple[int, int], outputs: tuple[str, ...]) -> _ShapeBinding:
        inputs = {name: self._allocate(shape, np.int64) for name in ("input_ids", "attention_mask")}
        results = {
            name: self._allocate((*self._places(name, shape), self._columns[name]), np.float32)
            for name in outputs
        }
        return _ShapeBinding(self._session.io_binding(), inputs, results)

    def _places(self, name: str, shape: tuple[int, int]) -> tuple[int, ...]:
        """(rows,), or (rows, seq) for an output of every token."""
        return shape if name in self._per_token else shape[:1]

    def _allocate(self, shape: tuple[int, ...], dtype: type[np.generic]) -> Any:
        return self._engine.OrtValue.ortvalue_from_shape_and_type(
            list(shape), dtype, self._device.kind, self._device.index
        )


class _ShapeBinding:
    """I/O binding of a session for one shape. inputs, outputs: OrtValues by name."""

    def __init__(self, binding: Any, inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> None:
        self._binding, self._inputs, self._outputs = binding, inputs, outputs
        for name, value in inputs.items():
            binding.bind_ortvalue_input(name, value)
        for name, value in outputs.items():
            binding.bind_ortvalue_output(name, value)

    def run(self, session: Any, feeds: Mapping[str, Int64Array]) -> list[Float32Array]:
        for name, array in feeds.items():
            # Blocks until the copy is complete: onnxruntime synchronizes the copy stream.
            self._inputs[name].update_inplace(np.ascontiguousarray(array))
        session.run_with_iobinding(self._binding)
        self._binding.synchronize_outputs()
        # Copied, because on a CPU this is a view of memory that the next batch overwrites.
        return [np.array(value.numpy(), dtype=np.float32) for value in self._outputs.values()]
