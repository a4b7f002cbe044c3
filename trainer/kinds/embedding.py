"""Embedding: vectors of the encoder as it is, or as other tasks have trained it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import torch

from schemas.decision.vectors import principal_components, unit_vectors
from schemas.errors import ConfigError
from schemas.kinds.embedding import EmbeddingOptions
from schemas.tasks.sections import TaskOptions
from trainer.data.task_data import TaskData
from trainer.kinds.base import FinishedHead, HeadShape, RunHead
from trainer.model.cnn_bilstm import CnnBilstmModel
from trainer.model.encoders import LoadedEncoder
from trainer.model.heads import EmbeddingHead, Head


class EmbeddingTrainerKind:
    """See `trainer.kinds.base.TrainerKind`."""

    GOLD_TYPE = pa.list_(pa.string())  # empty lists

    def objective(self, options: TaskOptions) -> None:
        """Nothing: the encoder is taken as it is."""

    def head(self, options: TaskOptions, shape: HeadShape) -> Head:
        """Pooling, projection and scaling as the config says."""
        return _head(_own(options), shape.hidden, project=True)

    def start_head(
        self, head: Head, options: TaskOptions, data: TaskData, encoder: LoadedEncoder
    ) -> None:
        """Check that the encoder has the layers and the dimension asked for."""
        own, config = _own(options), encoder.model.config
        key, source = f"tasks.{data.task}", encoder.source
        check_layers(own.layers, data, encoder)
        if own.dimension is not None and own.dimension > config.hidden_size:
            raise ConfigError(
                f"{key}.dimension: {own.dimension} is more than the {config.hidden_size} numbers "
                f"of a vector of {source}"
            )
        if _is_projected(own, config.hidden_size) and len(data.train) <= (own.dimension or 0):
            raise ConfigError(
                f"{key}.dimension: {own.dimension} principal components cannot be found in "
                f"{len(data.train)} training texts",
                hint="more texts, or a smaller dimension",
            )

    def finish_head(
        self, head: Head, options: TaskOptions, data: TaskData, run_head: RunHead
    ) -> FinishedHead:
        """Project onto the principal components of the training texts."""
        assert isinstance(head, EmbeddingHead)
        if head.projection is None:
            return FinishedHead()
        own, (dimension, hidden) = _own(options), head.projection.shape
        vectors = np.stack(run_head(_head(own, hidden, project=False), data.train))
        components = principal_components(unit_vectors(vectors), dimension)
        head.projection.copy_(torch.from_numpy(components))
        return FinishedHead(changed=True)

    def reference_ids(self, data: TaskData) -> Sequence[str]:
        """None."""
        return ()


def _head(options: EmbeddingOptions, hidden: int, *, project: bool) -> EmbeddingHead:
    return EmbeddingHead(
        hidden,
        pooling=options.pooling,
        layers=options.layers,
        dimension=(options.dimension or hidden) if project else hidden,
        normalize=options.normalize,
    )


def _is_projected(options: EmbeddingOptions, hidden: int) -> bool:
    return options.dimension is not None and options.dimension < hidden


def check_layers(layers: int, data: TaskData, encoder: LoadedEncoder) -> None:
    """Refuse more layers than the encoder gives the states of (ConfigError)."""
    there = _layers(encoder)
    if layers > there:
        raise ConfigError(
            f"tasks.{data.task}.layers: {layers} is more than the {there} layers whose states "
            f"{encoder.source} gives"
        )


def _layers(encoder: LoadedEncoder) -> int:
    """Layers whose hidden states the encoder gives."""
    is_recurrent = isinstance(encoder.model, CnnBilstmModel)
    return 1 if is_recurrent else int(encoder.model.config.num_hidden_layers)


def _own(options: TaskOptions) -> EmbeddingOptions:
    assert isinstance(options, EmbeddingOptions)
    return options
