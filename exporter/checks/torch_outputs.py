"""What torch gives for the tasks of a group, each batch run once."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from trainer.model.multitask import MultiTaskModel, run_heads

RunTorch = Callable[[Tensor, Tensor], Tensor]
"""From `input_ids` and `attention_mask`, (rows, seq) int64, to a task's output, (rows, ...)."""


class TorchOutputs:
    """The reference for the files of tasks that read the same text.

    Engines and tasks are compared on the same batches. The encoder runs once for each of them, and
    the outputs of all tasks are remembered.
    """

    def __init__(self, model: MultiTaskModel, tasks: Sequence[str]) -> None:
        self._model, self._tasks = model, tuple(tasks)
        self._known: dict[tuple[bytes, bytes, tuple[int, ...]], list[Tensor]] = {}

    def of_task(self, task: str) -> RunTorch:
        """Outputs of one of the tasks."""
        place = self._tasks.index(task)
        return lambda input_ids, attention_mask: self._run(input_ids, attention_mask)[place]

    def _run(self, input_ids: Tensor, attention_mask: Tensor) -> list[Tensor]:
        ids, mask = (tensor.numpy().tobytes() for tensor in (input_ids, attention_mask))
        key = (ids, mask, tuple(input_ids.shape))
        if key not in self._known:
            heads = [self._model.head(task) for task in self._tasks]
            with torch.inference_mode():
                self._known[key] = run_heads(
                    heads, self._model.encoder, input_ids, attention_mask, with_neighbours=False
                )
        return self._known[key]
