"""One shared encoder, one head a task."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from torch import Tensor, nn
from transformers import PreTrainedModel

from schemas.config import HeadKind
from trainer.heads import HEADS


class TaskPath(nn.Module):
    """The way from token ids to one task's logits: what becomes one ONNX file."""

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


class MultiTaskModel(nn.Module):
    """An encoder shared by all tasks.

    labels: number of labels of each task.
    heads: kind of the head of each task; `mean` where it names none.
    dropout: share of the values zeroed before each head while training.
    """

    def __init__(
        self,
        encoder: PreTrainedModel,
        labels: Mapping[str, int],
        *,
        heads: Mapping[str, HeadKind] = MappingProxyType({}),
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        hidden = encoder.config.hidden_size
        self.heads = nn.ModuleDict(
            {
                head_key(task): HEADS[heads.get(task, "mean")](hidden, count, dropout=dropout)
                for task, count in labels.items()
            }
        )

    def path(self, task: str) -> TaskPath:
        """The encoder and one head, sharing their weights with this model."""
        return TaskPath(self.encoder, self.heads[head_key(task)])

    def forward(self, input_ids: Tensor, attention_mask: Tensor, task: str) -> Tensor:
        """Logits of one task, (rows, labels)."""
        logits: Tensor = self.path(task)(input_ids, attention_mask)
        return logits


def head_key(task: str) -> str:
    """Key of a task's head; torch refuses names of its own, such as `type`. No task has a `-`."""
    return f"{task}-head" if hasattr(nn.ModuleDict, task) or task == "training" else task
