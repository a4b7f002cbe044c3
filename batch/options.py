"""What one run was asked to do."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue

from schemas.tables import ProbabilityFormat


@dataclass(frozen=True)
class Shard:
    """One of several runs that share a corpus: number 1 to `of`."""

    number: int
    of: int

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"


@dataclass(frozen=True)
class RunOptions:
    """Everything `batch-classify` was told, checked and complete.

    corpus: files, folders, globs or URLs. task: a task of the bundle, several with commas between
    them, or "all". gold_columns: for one task COLUMN, for several TASK=COLUMN each.
    tokens_per_batch: None takes the device's default.
    threads: 0 lets the engine choose. max_quarantined: share of rows in [0, 1].
    named_columns: columns that the user named, which must therefore be there; the defaults of
    title, id and domain may be missing.
    require_signature: file of the public key that must have signed the bundle, or None.
    shard: do this part of the corpus only. cache: folder of logits that are known already.
    cache_bytes: its size at most. gpu_memory_bytes: memory of a GPU to take at most, or None.
    probabilities: the form in which predictions hold them.
    """

    corpus: tuple[str, ...]
    task: str
    bundle: Path
    output: Path
    device: str = "auto"
    precision: str = "auto"
    threads: int = 0
    chunk_rows: int = 4096
    tokens_per_batch: int | None = None
    text_column: str = "text"
    title_column: str = "title"
    id_column: str = "article_id"
    domain_column: str = "domain"
    gold_columns: tuple[str, ...] = ()
    ignore_unknown_gold: bool = False
    keep_text: bool = False
    overwrite: bool = False
    max_quarantined: float = 0.01
    named_columns: frozenset[str] = frozenset()
    require_signature: Path | None = None
    shard: Shard | None = None
    cache: Path | None = None
    cache_bytes: int = 2_000_000_000
    gpu_memory_bytes: int | None = None
    probabilities: ProbabilityFormat = "map"

    def shaping(self) -> dict[str, JsonValue]:
        """The options that shape the output; a resumed run must have the same."""
        return {
            "chunk_rows": self.chunk_rows,
            "text_column": self.text_column,
            "title_column": self.title_column,
            "id_column": self.id_column,
            "domain_column": self.domain_column,
            "ignore_unknown_gold": self.ignore_unknown_gold,
            "keep_text": self.keep_text,
            "probabilities": self.probabilities,
        }
