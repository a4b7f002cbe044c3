"""One shared encoder, one linear head a task."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn
from transformers import PreTrainedModel


def mean_pool(hidden_states: Tensor, attention_mask: Tensor) -> Tensor:
    """Average the hidden states of the real tokens.

    hidden_states: (rows, seq, hidden); attention_mask: (rows, seq), 1 for real tokens.
    Returns (rows, hidden); a row without any real token gives zeros.
    """
    mask = attention_mask.unsqueeze(-1).to(hidden_states.dtype)  # (rows, seq, 1)
    return (hidden_states * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1.0)


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
        logits: Tensor = self.head(mean_pool(hidden_states, attention_mask))
        return logits


class MultiTaskModel(nn.Module):
    """An encoder shared by all tasks.

    labels: number of labels of each task.
    dropout: share of pooled values zeroed before each head while training.
    """

    def __init__(
        self, encoder: PreTrainedModel, labels: Mapping[str, int], *, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.encoder = encoder
        hidden = encoder.config.hidden_size
        self.heads = nn.ModuleDict(
            {
                _head_key(task): nn.Sequential(nn.Dropout(dropout), nn.Linear(hidden, count))
                for task, count in labels.items()
            }
        )

    def path(self, task: str) -> TaskPath:
        """The encoder and one head, sharing their weights with this model."""
        return TaskPath(self.encoder, self.heads[_head_key(task)])

    def forward(self, input_ids: Tensor, attention_mask: Tensor, task: str) -> Tensor:
        """Logits of one task, (rows, labels)."""
        logits: Tensor = self.path(task)(input_ids, attention_mask)
        return logits


def _head_key(task: str) -> str:
    """Key of a task's head; torch refuses names of its own, such as `type`. No task has a `-`."""
    return f"{task}-head" if hasattr(nn.ModuleDict, task) or task == "training" else task
