"""One shared encoder, one head a task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn
from transformers import PreTrainedModel


class TaskPath(nn.Module):
    """Path from token ids to one task's output: the reference for an ONNX file of one task."""

    def __init__(self, encoder: PreTrainedModel, head: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head
        self.config = encoder.config  # read by the ONNX exporter

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Both (rows, seq) int64. Returns logits, (rows, labels)."""
        hidden_states = self.encoder(
            input_ids=input_ids, attention_mask=attention_mask
        ).last_hidden_state
        logits: Tensor = self.head(hidden_states, attention_mask)
        return logits


class JointPath(nn.Module):
    """Path from token ids to the outputs of several tasks, the encoder run once.

    heads: by task, in the order of the outputs.
    """

    def __init__(self, encoder: PreTrainedModel, heads: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.tasks = tuple(heads)
        self.encoder = encoder
        self.heads = nn.ModuleList(heads.values())
        self.config = encoder.config  # read by the ONNX exporter

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, ...]:
        """Both (rows, seq) int64. Returns logits, (rows, labels) for each task in order."""
        hidden_states = self.encoder(
            input_ids=input_ids, attention_mask=attention_mask
        ).last_hidden_state
        return tuple(head(hidden_states, attention_mask) for head in self.heads)


class MultiTaskModel(nn.Module):
    """An encoder shared by all tasks.

    heads: of each task.
    """

    def __init__(self, encoder: PreTrainedModel, heads: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.encoder = encoder
        self.heads = nn.ModuleDict({head_key(task): head for task, head in heads.items()})

    def path(self, task: str) -> TaskPath:
        """The encoder and one head, sharing their weights with this model."""
        return TaskPath(self.encoder, self.heads[head_key(task)])

    def joint(self, tasks: Sequence[str]) -> JointPath:
        """The encoder and the heads of some tasks, sharing their weights with this model."""
        return JointPath(self.encoder, {task: self.heads[head_key(task)] for task in tasks})

    def forward(self, input_ids: Tensor, attention_mask: Tensor, task: str) -> Tensor:
        """Logits of one task, (rows, labels)."""
        logits: Tensor = self.path(task)(input_ids, attention_mask)
        return logits


def head_key(task: str) -> str:
    """Key of a task's head; torch refuses names of its own, such as `type`. No task has a `-`."""
    return f"{task}-head" if hasattr(nn.ModuleDict, task) or task == "training" else task
