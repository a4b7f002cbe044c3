"""Starting a run with the weights of an earlier one."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor

from schemas.errors import CheckpointError, listing
from trainer.checkpoint.reader import CheckpointFiles, read_info
from trainer.model.multitask import MultiTaskModel, head_key

log = logging.getLogger(__name__)


def start_from(
    model: MultiTaskModel,
    folder: Path,
    *,
    tokenizer: Tokenizer,
    labels: Mapping[str, tuple[str, ...]],
) -> None:
    """Put a checkpoint's encoder into `model`, and its heads for tasks of the same labels.

    labels: the ordered labels of each task of `model`. A head stays as it is where the checkpoint
    has no such task, or one of other labels or another kind of head.
    Raises CheckpointError if the folder has no finished checkpoint, or one of another encoder.
    """
    files = CheckpointFiles(folder)
    info = read_info(files)
    try:
        known = Tokenizer.from_file(str(files.tokenizer))
        stored = load_file(files.weights)
    except (OSError, ValueError, SafetensorError) as error:
        raise CheckpointError(f"{folder}: cannot be read: {error}") from error
    if known.to_str() != tokenizer.to_str():
        raise CheckpointError(
            f"{folder}: its tokenizer is not that of the encoder in the config",
            hint="name the same encoder.source as the run that made it",
        )
    own = model.state_dict()
    # Buffers of heads, such as references, are computed from the data when training is finished.
    from_data = {name for name, _ in model.named_buffers() if name.startswith("heads.")}
    learned = {name: value for name, value in stored.items() if name not in from_data}
    same = [
        task
        for task, names in labels.items()
        if task in info.tasks
        and info.tasks[task].labels == names
        and _shapes(learned, head_key(task))
        == _shapes({name: own[name] for name in own.keys() - from_data}, head_key(task))
    ]
    taken = ("encoder.", *(f"heads.{head_key(task)}." for task in same))
    try:
        model.load_state_dict(
            {**own, **{name: value for name, value in learned.items() if name.startswith(taken)}}
        )
    except RuntimeError as error:
        raise CheckpointError(f"{folder}: not a checkpoint of this encoder: {error}") from error
    log.info("starting from %s; heads kept: %s", folder, listing(same) if same else "none")


def _shapes(weights: Mapping[str, Tensor], key: str) -> dict[str, tuple[int, ...]]:
    """Shapes of a head's weights by name."""
    return {
        name: tuple(value.shape)
        for name, value in weights.items()
        if name.startswith(f"heads.{key}.")
    }
