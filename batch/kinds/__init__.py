"""What `batch` adds to a task kind: counts by domain, and its part of the report.

Input: answers of a chunk. Output: a tally, and a section of the report. Must not import report,
output or pipeline. `BATCH_KINDS` is the only list of kinds in this package.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from batch.kinds.base import BatchKind
from batch.kinds.embedding import EmbeddingBatchKind
from batch.kinds.multiclass import MulticlassBatchKind
from batch.kinds.multilabel import MultilabelBatchKind
from batch.kinds.nearest import NearestBatchKind
from batch.kinds.token import TokenBatchKind
from schemas.kinds.embedding import EmbeddingKind
from schemas.kinds.multiclass import MulticlassKind
from schemas.kinds.multilabel import MultilabelKind
from schemas.kinds.nearest import NearestKind
from schemas.kinds.token import TokenKind

BATCH_KINDS: Mapping[str, BatchKind] = MappingProxyType(
    {
        MultilabelKind.NAME: MultilabelBatchKind(),
        MulticlassKind.NAME: MulticlassBatchKind(),
        EmbeddingKind.NAME: EmbeddingBatchKind(),
        NearestKind.NAME: NearestBatchKind(),
        TokenKind.NAME: TokenBatchKind(),
    }
)
