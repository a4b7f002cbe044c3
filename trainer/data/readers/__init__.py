"""Readers of labelled files: rows of articles with gold labels."""

from __future__ import annotations

from typing import Literal

from schemas.config.models import DataConfig, TaskConfig
from trainer.data.readers.rows import LabelledRows

Part = Literal["train", "validation"]


def read_part(data: DataConfig, task: TaskConfig, part: Part) -> LabelledRows:
    """Read the training or the validation rows of one data set; texts of other rows are not read.

    Raises DataError with the file, and the row if a row is the cause.
    """
    if data.format == "reuters21578":
        from trainer.data.readers.reuters import read_training_part

        return read_training_part(data, task, part)
    if data.format == "conll":
        from trainer.data.readers.tagged import read_conll_part

        return read_conll_part(data, task, part)
    from trainer.data.readers.parquet import read_parquet_part

    return read_parquet_part(data, task, part)
