"""Task kinds: what the outputs of a task mean.

Input: gold values, or outputs of a graph. Output: targets, answers, scores. Must not import bundle
or config. `KINDS` is the only list of kinds in this package.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Annotated, Any

from pydantic import AfterValidator

from schemas.errors import listing
from schemas.kinds.base import Kind
from schemas.kinds.embedding import EmbeddingKind
from schemas.kinds.multiclass import MulticlassKind
from schemas.kinds.multilabel import MultilabelKind
from schemas.kinds.nearest import NearestKind
from schemas.kinds.token import TokenKind

# Any: the kinds differ in these types, and only the modules of one kind know which they are.
AnyKind = Kind[Any, Any, Any, Any]

_ALL: tuple[AnyKind, ...] = (
    MultilabelKind(),
    MulticlassKind(),
    EmbeddingKind(),
    NearestKind(),
    TokenKind(),
)
KINDS: Mapping[str, AnyKind] = MappingProxyType({kind.NAME: kind for kind in _ALL})

DEFAULT_KIND = MultilabelKind.NAME
"""Kind of a task whose config names none."""


def check_labels(kind: str, labels: Sequence[str]) -> None:
    """Raise ValueError for a task without the labels that its kind needs, or with labels that its
    kind cannot have.
    """
    if KINDS[kind].HAS_LABELS and not labels:
        raise ValueError("a task needs at least one label")
    if labels and not KINDS[kind].HAS_LABELS:
        raise ValueError(f"a task of kind {kind!r} has no labels")


def _check_kind(name: str) -> str:
    if name not in KINDS:
        raise ValueError(f"unknown kind {name!r}: expected one of {listing(KINDS)}")
    return name


TaskKind = Annotated[str, AfterValidator(_check_kind)]
"""Name of a kind."""
