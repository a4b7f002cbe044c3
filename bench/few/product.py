"""Training and answers of the product itself, without files of ONNX."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path

import polars as pl
from pydantic import BaseModel

from bench.few.sets import GOLD, MAX_TOKENS, TEXT, LabelledSet
from bench.training.trained_task import TrainedTask
from exporter.kinds import EXPORTER_KINDS
from schemas.config.files import load_config
from schemas.config.models import TrainingRun
from schemas.kinds.base import Answer
from schemas.text.model_text import Article
from trainer.checkpoint.reader import Checkpoint
from trainer.training.loop import train

TASK = "labels_of_rows"


def train_and_answer(
    one: LabelledSet,
    rows: pl.DataFrame,
    folder: Path,
    overrides: Sequence[str] = (),
    task_overrides: Sequence[str] = (),
) -> tuple[list[Answer], float]:
    """Train on rows, fit the decision as an export does, and answer the test rows.

    A call that was killed resumes the training in `folder`.
    overrides: `KEY=VALUE` of the config. task_overrides: of its task.
    Returns an answer for each test row, and the seconds of training with all that it takes.
    """
    of_task = [f"tasks.{TASK}.{override}" for override in task_overrides]
    config = _config(one, rows, folder, [*overrides, *of_task])
    started = time.perf_counter()
    train(config, folder / "checkpoint")
    seconds = time.perf_counter() - started
    model = TrainedTask(Checkpoint.open(folder / "checkpoint"), TASK)
    return _answer(model, config.tasks[TASK].decision, one.tested[TEXT].to_list()), seconds


def _config(
    one: LabelledSet, rows: pl.DataFrame, folder: Path, overrides: Sequence[str]
) -> TrainingRun:
    folder.mkdir(parents=True, exist_ok=True)
    rows.write_parquet(folder / "rows.parquet")
    file = folder / "config.toml"
    file.write_text(
        f"""schema_version = 1
[encoder]
max_tokens = {MAX_TOKENS}
[tasks.{TASK}]
kind = {json.dumps(one.kind)}
[[tasks.{TASK}.data]]
path = "rows.parquet"
text_column = {json.dumps(TEXT)}
labels_column = {json.dumps(GOLD)}
""",
        encoding="utf-8",
    )
    return load_config(file, overrides)


def _answer(model: TrainedTask, decision_config: BaseModel, texts: Sequence[str]) -> list[Answer]:
    """Answers by the decision that suits the held-out rows."""
    fitted = EXPORTER_KINDS[model.facts.kind].fit(model.heldout(), decision_config)
    tokens = model.tokenize([Article(text) for text in texts])
    decided = model.kind.decide(model.run(tokens), model.facts.labels, fitted.decision, tokens)
    return list(decided.answers())
