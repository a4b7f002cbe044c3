"""Starting a run with the weights of an earlier one."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor

from schemas.errors import CheckpointError, listing
from trainer.checkpoint.reader import CheckpointFiles, CheckpointInfo, read_info
from trainer.model.multitask import MultiTaskModel, head_key

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EarlierRun:
    """A finished checkpoint to start from.

    info: of its tasks. weights: of the encoder and the heads.
    """

    folder: Path
    info: CheckpointInfo
    weights: Mapping[str, Tensor]

    @classmethod
    def open(cls, folder: Path, tokenizer: Tokenizer) -> EarlierRun:
        """Raises CheckpointError if there is no finished one, or it is of another tokenizer."""
        files = CheckpointFiles(folder)
        info = read_info(files)
        try:
            earlier = Tokenizer.from_file(str(files.tokenizer))
            weights = load_file(files.weights)
        except (OSError, ValueError, SafetensorError) as error:
            raise CheckpointError(f"{folder}: cannot be read: {error}") from error
        if earlier.to_str() != tokenizer.to_str():
            raise CheckpointError(
                f"{folder}: its tokenizer is not that of the encoder in the config",
                hint="name the same encoder.source as the run that made it",
            )
        return cls(folder, info, weights)

    def load_encoder(self, model: MultiTaskModel) -> None:
        """Put its encoder into a model. Raises CheckpointError if it is another one."""
        own = model.state_dict()
        encoder = {name: one for name, one in self.weights.items() if name.startswith("encoder.")}
        try:
            model.load_state_dict({**own, **encoder})
        except RuntimeError as error:
            raise CheckpointError(
                f"{self.folder}: not a checkpoint of this encoder: {error}"
            ) from error

    def load_heads(self, model: MultiTaskModel, labels: Mapping[str, tuple[str, ...]]) -> None:
        """Put its heads into a model, for tasks of the same labels.

        labels: the ordered labels of each task of the model. A head stays as it is where the
        checkpoint has no such task, or one of other labels or another kind of head.
        """
        own = model.state_dict()
        # Buffers, such as references, are computed from the data when training is finished.
        from_data = {name for name, _ in model.named_buffers() if name.startswith("heads.")}
        learned = {name: one for name, one in self.weights.items() if name not in from_data}
        same = [
            task
            for task, names in labels.items()
            if task in self.info.tasks
            and self.info.tasks[task].labels == names
            and _shapes(learned, head_key(task))
            == _shapes({name: own[name] for name in own.keys() - from_data}, head_key(task))
        ]
        taken = tuple(f"heads.{head_key(task)}." for task in same)
        model.load_state_dict(
            {**own, **{name: one for name, one in learned.items() if name.startswith(taken)}}
        )
        heads = listing(same) if same else "none"
        log.info("starting from %s; heads kept: %s", self.folder, heads)


def _shapes(weights: Mapping[str, Tensor], key: str) -> dict[str, tuple[int, ...]]:
    """Shapes of a head's weights by name."""
    return {
        name: tuple(value.shape)
        for name, value in weights.items()
        if name.startswith(f"heads.{key}.")
    }
