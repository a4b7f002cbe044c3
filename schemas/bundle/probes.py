"""Probes: synthetic texts in a bundle with their logits at export."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from schemas.arrays import Float32Array
from schemas.errors import BundleError
from schemas.printable import one_line
from schemas.text.model_text import ModelText
from schemas.text.tokens import TokenizedText

MAX_PROBES = 100_000
"""Rows of all tasks at most; a task has 16 or so."""

PROBE_SCHEMA = pa.schema(
    [
        ("file", pa.string()),
        ("task", pa.string()),
        ("text", pa.string()),
        ("input_ids", pa.list_(pa.int32())),
        ("logits", pa.list_(pa.float32())),
    ]
)


@dataclass(frozen=True)
class Probes:
    """What one graph made of its probes.

    file: name of the graph. texts: as the tokenizer takes them. tokenized: what it made of them.
    outputs: of each text, flat or not, by canonical batches on the machine of the export.
    """

    file: str
    task: str
    texts: tuple[ModelText, ...]
    tokenized: tuple[TokenizedText, ...]
    outputs: tuple[Float32Array, ...]


def write_probes(path: Path, probes: Sequence[Probes]) -> None:
    """Write the probes of every graph of a bundle."""
    rows = [
        {
            "file": one.file,
            "task": one.task,
            "text": text.text,
            "input_ids": tokenized.ids,
            "logits": output.ravel(),
        }
        for one in probes
        for text, tokenized, output in zip(one.texts, one.tokenized, one.outputs, strict=True)
    ]
    pq.write_table(pa.Table.from_pylist(rows, schema=PROBE_SCHEMA), path, compression="zstd")


def read_probes(content: bytes, label: str) -> list[Probes]:
    """Read what `write_probes` wrote. Raises BundleError for another file.

    label: its path, for messages.
    """
    try:
        rows = _read_rows(content)
        return [
            _probes(file, task, list(group))
            for (file, task), group in groupby(rows, key=lambda row: (row["file"], row["task"]))
        ]
    except (OSError, ValueError, TypeError, pa.ArrowException) as error:
        raise BundleError(
            f"{label}: not a file of probes: {one_line(error)}", hint="export the checkpoint again"
        ) from error


def _read_rows(content: bytes) -> list[dict[str, Any]]:
    """Rows of the table. Raises ValueError before reading more than there can be."""
    rows = pq.ParquetFile(pa.BufferReader(content)).metadata.num_rows
    if rows > MAX_PROBES:
        raise ValueError(f"{rows:,} rows, and at most {MAX_PROBES:,} are expected")
    read: list[dict[str, Any]] = pq.read_table(
        pa.BufferReader(content), schema=PROBE_SCHEMA
    ).to_pylist()
    return read


def _probes(file: str, task: str, rows: list[dict[str, list[float] | str]]) -> Probes:
    return Probes(
        file=file,
        task=task,
        texts=tuple(ModelText(str(row["text"]), cut=False) for row in rows),
        tokenized=tuple(
            TokenizedText(np.asarray(row["input_ids"], dtype=np.int32), truncated=False)
            for row in rows
        ),
        outputs=tuple(np.array(row["logits"], dtype=np.float32) for row in rows),
    )
