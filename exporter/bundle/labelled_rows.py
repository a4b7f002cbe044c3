"""Labelled rows of a Parquet corpus, read as `batch-classify` reads them."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batch.corpus.gold import gold_targets
from batch.corpus.reader import ChunkReader
from batch.corpus.sources.hashing import check_unchanged, fingerprint_file
from batch.corpus.sources.urls import label_of
from batch.options import CorpusOptions
from batch.pipeline.run import check_gold_labels, plan_run
from batch.scoring.scorer import Scorer
from schemas.errors import DataError
from schemas.kinds import KINDS
from schemas.kinds.base import Targets
from schemas.tasks.parents import parents_of
from schemas.text.model_text import EMPTY, ModelText

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LabelledRows:
    """Rows with text and gold labels.

    targets: gold values as numbers, one array a row. data_sha256: over the hashes of the files.
    left_out: rows that have no text or no labels.
    """

    texts: list[ModelText]
    targets: Targets
    data_sha256: str
    left_out: int


def read_labelled_rows(options: CorpusOptions, scorer: Scorer, *, leave_out: Path) -> LabelledRows:
    """Read the rows that have text and gold labels of the scorer's task.

    leave_out: folder that is not read. Raises CorpusError, or DataError if there is no such row.
    """
    metadata = scorer.metadata
    plan = plan_run(options, scorer, leave_out=leave_out, keep_columns=False)
    check_gold_labels(options, plan, scorer)
    if (left_out := plan.listing.summary()) is not None:
        log.warning("%s", left_out)
    reader = ChunkReader(plan, options, metadata.text, max_tokens=metadata.most_tokens)
    texts: list[ModelText] = []
    gold: list[Any] = []
    for chunk in plan.chunks:
        rows = reader.read(chunk)
        for text, value in zip(rows.texts, rows.gold[metadata.task], strict=True):
            if text is not None and text != EMPTY and value is not None:
                texts.append(text)
                gold.append(value)
    if not texts:
        raise DataError(
            f"{', '.join(map(label_of, options.corpus))}: no row has text and labels",
            hint=f"labels are read from column {plan.tasks.gold[metadata.task]!r}, text from "
            f"{options.text_column!r}",
        )
    fingerprints = {file.source.name: fingerprint_file(file.source) for file in plan.files}
    check_unchanged(plan.listing, fingerprints)
    return LabelledRows(
        texts=texts,
        # Unknown labels that may not be ignored were refused above.
        targets=gold_targets(KINDS[metadata.kind], gold, metadata.labels, parents_of(metadata))[0],
        data_sha256=hashlib.sha256("\n".join(fingerprints.values()).encode()).hexdigest(),
        left_out=plan.rows - len(texts),
    )
