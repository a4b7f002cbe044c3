"""What one run was asked to do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from pydantic import JsonValue

from schemas.bundle.variants import DeviceKind
from schemas.tables import ProbabilityFormat


@dataclass(frozen=True)
class Shard:
    """One of several runs that share a corpus: number 1 to `of`."""

    number: int
    of: int

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"


@dataclass(frozen=True)
class ModelOptions:
    """What scores, and on what.

    task: a task of the bundle, several with commas between them, or "all".
    threads: 0 lets the engine choose. tokens_per_batch: None takes the device's default.
    gpu_memory_bytes: memory of a GPU to take at most, or None.
    require_signature: file of the public key that must have signed the bundle, or None.
    neighbours: name the nearest reference texts, for tasks that can.
    """

    bundle: Path
    task: str
    device: str = "auto"
    precision: str = "auto"
    threads: int = 0
    tokens_per_batch: int | None = None
    gpu_memory_bytes: int | None = None
    require_signature: Path | None = None
    neighbours: bool = False


CHUNK_ROWS: Mapping[DeviceKind, int] = {"cpu": 4096, "cuda": 16384}
"""Default rows of a chunk by kind of device: batches are larger on CUDA, and the last batch of each
length is partly empty."""


@dataclass(frozen=True)
class CorpusOptions:
    """What is read, and in which pieces.

    corpus: files, folders, globs or URLs. chunk_rows: None takes the device's default.
    gold_columns: for one task COLUMN, for several TASK=COLUMN each. named_columns: columns that the
    user named, which must therefore be there; the defaults of title, id and domain may be missing.
    """

    corpus: tuple[str, ...]
    chunk_rows: int | None = None
    text_column: str = "text"
    title_column: str = "title"
    id_column: str = "article_id"
    domain_column: str = "domain"
    gold_columns: tuple[str, ...] = ()
    ignore_unknown_gold: bool = False
    keep_text: bool = False
    named_columns: frozenset[str] = frozenset()

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
        }


@dataclass(frozen=True)
class OutputOptions:
    """Where results are written, and in which form.

    shard: do this part of the corpus only. max_quarantined: share of rows in [0, 1].
    probabilities: the form in which predictions hold them.
    """

    folder: Path
    overwrite: bool = False
    shard: Shard | None = None
    probabilities: ProbabilityFormat = "map"
    max_quarantined: float = 0.01


@dataclass(frozen=True)
class CacheOptions:
    """Cache of outputs. max_bytes: of its files. is_private: nobody else may write to it."""

    folder: Path
    max_bytes: int
    is_private: bool


@dataclass(frozen=True)
class RunOptions:
    """Everything that `batch-classify` was asked for, checked and complete, by stage."""

    model: ModelOptions
    corpus: CorpusOptions
    output: OutputOptions
    cache: CacheOptions | None = None

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> RunOptions:
        """Split flat values, named as the fields of the stages, but for `output` and `cache`."""
        require_signature, cache = values.get("require_signature"), values.get("cache")
        return cls(
            model=ModelOptions(**_own(ModelOptions, values)),
            corpus=CorpusOptions(**_own(CorpusOptions, values)),
            output=OutputOptions(values["output"], **_own(OutputOptions, values)),
            cache=None
            if cache is None
            else CacheOptions(cache, values["cache_bytes"], require_signature is not None),
        )

    def on(self, device: DeviceKind) -> RunOptions:
        """These options with the defaults of a kind of device."""
        chunk_rows = self.corpus.chunk_rows or CHUNK_ROWS[device]
        return replace(self, corpus=replace(self.corpus, chunk_rows=chunk_rows))


def _own(options: type, values: Mapping[str, Any]) -> dict[str, Any]:
    return {field.name: values[field.name] for field in fields(options) if field.name in values}
