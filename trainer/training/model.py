"""The model of a run before its first step."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn
from transformers import PreTrainedModel

from schemas.config.models import EncoderConfig, TrainingRun
from trainer.data.task_data import TaskData
from trainer.kinds import TRAINER_KINDS
from trainer.kinds.base import HeadShape
from trainer.model.encoders import LoadedEncoder
from trainer.model.entity import MarkerIds
from trainer.model.multitask import MultiTaskModel
from trainer.training.start import EarlierRun


def prepare_encoder(encoder: PreTrainedModel, config: EncoderConfig) -> None:
    """Set the encoder's dropout, and what of it does not learn."""
    for module in encoder.modules():
        if isinstance(module, nn.Dropout):
            module.p = config.dropout
    if config.frozen_embeddings:
        encoder.get_input_embeddings().requires_grad_(False)


def make_model(
    config: TrainingRun, encoder: LoadedEncoder, data: Mapping[str, TaskData]
) -> MultiTaskModel:
    """Encoder and heads as they are before the first step. Raises ConfigError."""
    hidden = encoder.model.config.hidden_size
    kinds = {name: TRAINER_KINDS[config.tasks[name].kind] for name in data}
    heads = {
        name: kinds[name].head(
            config.tasks[name],
            HeadShape(
                hidden,
                len(task.labels),
                config.train.dropout,
                MarkerIds.of(encoder.tokenizer) if config.tasks[name].entity_markers else None,
            ),
        )
        for name, task in data.items()
    }
    for name, head in heads.items():
        head.reversal = config.tasks[name].reversal
    model = MultiTaskModel(encoder.model, heads)
    start_from = config.encoder.start_from
    earlier = start_from and EarlierRun.open(start_from, encoder.tokenizer)
    if earlier:
        earlier.load_encoder(model)
    for name, task in data.items():
        kinds[name].start_head(heads[name], config.tasks[name], task, encoder)
    prepare_encoder(encoder.model, config.encoder)
    if earlier:
        earlier.load_heads(model, {name: task.labels for name, task in data.items()})
    return model
