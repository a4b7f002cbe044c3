"""What `exporter` adds to a task kind: fitting its decision, and its part of the model card.

Input: outputs and targets of held-out rows. Output: a decision with its evidence. Must not import
checks, precision or bundle. `EXPORTER_KINDS` is the only list of kinds in this package.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from exporter.kinds.base import ExporterKind
from exporter.kinds.embedding import EmbeddingExporterKind
from exporter.kinds.multiclass import MulticlassExporterKind
from exporter.kinds.multilabel import MultilabelExporterKind
from exporter.kinds.nearest import NearestExporterKind
from exporter.kinds.token import TokenExporterKind
from schemas.kinds.embedding import EmbeddingKind
from schemas.kinds.multiclass import MulticlassKind
from schemas.kinds.multilabel import MultilabelKind
from schemas.kinds.nearest import NearestKind
from schemas.kinds.token import TokenKind

EXPORTER_KINDS: Mapping[str, ExporterKind] = MappingProxyType(
    {
        MultilabelKind.NAME: MultilabelExporterKind(),
        MulticlassKind.NAME: MulticlassExporterKind(),
        EmbeddingKind.NAME: EmbeddingExporterKind(),
        NearestKind.NAME: NearestExporterKind(),
        TokenKind.NAME: TokenExporterKind(),
    }
)
