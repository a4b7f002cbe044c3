"""What `trainer` adds to a task kind: its head, its loss, and its scores while training.

Input: options of a task and its rows. Output: torch modules and functions. Must not import
training, checkpoint or evaluation. `TRAINER_KINDS` is the only list of kinds in this package.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from schemas.kinds.embedding import EmbeddingKind
from schemas.kinds.multiclass import MulticlassKind
from schemas.kinds.multilabel import MultilabelKind
from schemas.kinds.nearest import NearestKind
from schemas.kinds.token import TokenKind
from trainer.kinds.base import TrainerKind
from trainer.kinds.embedding import EmbeddingTrainerKind
from trainer.kinds.multiclass import MulticlassTrainerKind
from trainer.kinds.multilabel import MultilabelTrainerKind
from trainer.kinds.nearest import NearestTrainerKind
from trainer.kinds.token import TokenTrainerKind

TRAINER_KINDS: Mapping[str, TrainerKind] = MappingProxyType(
    {
        MultilabelKind.NAME: MultilabelTrainerKind(),
        MulticlassKind.NAME: MulticlassTrainerKind(),
        EmbeddingKind.NAME: EmbeddingTrainerKind(),
        NearestKind.NAME: NearestTrainerKind(),
        TokenKind.NAME: TokenTrainerKind(),
    }
)
