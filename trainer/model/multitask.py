"""One shared encoder, one head a task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from trainer.model.heads import Head
from trainer.model.reversal import reverse_gradient


def run_heads(
    heads: Sequence[Head],
    encoder: PreTrainedModel,
    input_ids: Tensor,
    attention_mask: Tensor,
    *,
    with_neighbours: bool,
) -> list[Tensor]:
    """Run the encoder once, and each head over what it takes of it; (rows, ...) a head.

    with_neighbours: the output of a head that names neighbours is followed by theirs.
    """
    most_layers = max(head.layers for head in heads)
    read = encoder(
        input_ids=input_ids,
        attention_mask=attention_mask,
        **({"output_hidden_states": True} if most_layers > 1 else {}),
    )
    outputs: list[Tensor] = []
    for head in heads:
        states = read.last_hidden_state
        if head.layers > 1:
            states = torch.stack(read.hidden_states[-head.layers :]).mean(dim=0)
        if head.reversal and head.training:
            states = reverse_gradient(states, head.reversal)
        if head.neighbours and with_neighbours:
            outputs += head(states, attention_mask, input_ids, with_neighbours=True)
        else:
            outputs.append(head(states, attention_mask, input_ids))
    return outputs


class TaskPath(nn.Module):
    """Path from token ids to one task's output: the reference for an ONNX file of one task."""

    def __init__(self, encoder: PreTrainedModel, head: Head) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head
        self.config = encoder.config  # read by the ONNX exporter

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Both (rows, seq) int64. Returns the output of the task, (rows, ...)."""
        (output,) = run_heads(
            [self.head], self.encoder, input_ids, attention_mask, with_neighbours=False
        )
        return output


class JointPath(nn.Module):
    """Path from token ids to the outputs of several tasks, the encoder run once.

    heads: by task, in the order of the outputs.
    """

    def __init__(self, encoder: PreTrainedModel, heads: Mapping[str, Head]) -> None:
        super().__init__()
        self.tasks = tuple(heads)
        self.encoder = encoder
        self.heads = nn.ModuleList(heads.values())
        self.config = encoder.config  # read by the ONNX exporter

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, ...]:
        """Both (rows, seq) int64. Returns the output of each task in order, (rows, ...).

        The output of a head that names neighbours is followed by theirs.
        """
        heads = [head for head in self.heads if isinstance(head, Head)]
        return tuple(
            run_heads(heads, self.encoder, input_ids, attention_mask, with_neighbours=True)
        )


class MultiTaskModel(nn.Module):
    """An encoder shared by all tasks.

    heads: of each task.
    """

    def __init__(self, encoder: PreTrainedModel, heads: Mapping[str, Head]) -> None:
        super().__init__()
        self.encoder = encoder
        self.heads = nn.ModuleDict({head_key(task): head for task, head in heads.items()})

    def head(self, task: str) -> Head:
        """Head of a task."""
        head = self.heads[head_key(task)]
        assert isinstance(head, Head)
        return head

    def path(self, task: str) -> TaskPath:
        """The encoder and one head, sharing their weights with this model."""
        return TaskPath(self.encoder, self.head(task))

    def joint(self, tasks: Sequence[str]) -> JointPath:
        """The encoder and the heads of some tasks, sharing their weights with this model."""
        return JointPath(self.encoder, {task: self.head(task) for task in tasks})

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, tasks: Sequence[str]
    ) -> tuple[Tensor, ...]:
        """Output of each of some tasks, (rows, ...), the encoder run once."""
        outputs: tuple[Tensor, ...] = self.joint(tasks)(input_ids, attention_mask)
        return outputs


def head_key(task: str) -> str:
    """Key of a task's head; torch refuses names of its own, such as `type`. No task has a `-`."""
    return f"{task}-head" if hasattr(nn.ModuleDict, task) or task == "training" else task
