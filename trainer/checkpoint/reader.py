"""The checkpoint folder: what training leaves, and how it is opened again."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, ValidationError, create_model, model_validator
from safetensors.torch import load_file
from tokenizers import Tokenizer
from transformers import AutoConfig, AutoModel

from schemas.arrays import Float32Array, Int32Array
from schemas.bundle.facts import EncoderFacts, TrainingFacts
from schemas.errors import CheckpointError, listing
from schemas.io.json_values import parse_json
from schemas.kinds import KINDS, TaskKind, check_labels
from schemas.kinds.by_kind import ByKind
from schemas.tables import END, ENTITY, ID, START
from schemas.tasks.sections import TaskOptions
from schemas.tasks.task import LabelNames, TaskName
from schemas.text.model_text import Article, TextSpec
from schemas.text.windows import WindowSpec
from schemas.validation import validation_problems
from schemas.version import SCHEMA_VERSION
from trainer.data.readers.rows import LabelledRows
from trainer.kinds import TRAINER_KINDS
from trainer.kinds.base import HeadShape
from trainer.model.encoders import drop_pooler, needs_own_code
from trainer.model.entity import MarkerIds
from trainer.model.multitask import MultiTaskModel

ARTICLE_FIELDS = (
    ("text", pa.string()),
    ("title", pa.string()),
    (ENTITY, pa.string()),
    (START, pa.int64()),
    (END, pa.int64()),
)
GOLD = "gold"
CORRECTION = "correction"
SAMPLE_SCHEMA = pa.schema([("ids", pa.list_(pa.int32()))])
SAMPLE_ROWS = 300
REFERENCES_SCHEMA = pa.schema([pa.field(ID, pa.string(), nullable=False)])


Corrections = Mapping[str, Sequence[Float32Array]]
"""By task, for each held-out row, what turns the finished model's output into that of one that has
not learned from the row."""


class CheckpointTask(BaseModel):
    """One task of a checkpoint."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: TaskKind
    labels: LabelNames
    text: TextSpec
    windows: WindowSpec | None
    """In which long texts are read, if any."""
    options: TaskOptions
    """What the config set for a task of this kind."""
    training: TrainingFacts

    @model_validator(mode="after")
    def _labels_fit_the_kind(self) -> Self:
        check_labels(self.kind, self.labels)
        return self


@cache
def checkpoint_task_model(kind: str) -> type[CheckpointTask]:
    """`CheckpointTask` with the options of a kind."""
    model: type[CheckpointTask] = create_model(
        f"{kind.title()}CheckpointTask",
        __base__=CheckpointTask,
        __module__=__name__,
        options=(KINDS[kind].Options, ...),
    )
    return model


if TYPE_CHECKING:
    AnyCheckpointTask = CheckpointTask
else:
    AnyCheckpointTask = Annotated[CheckpointTask, ByKind(checkpoint_task_model)]


def heldout_schema(kind: str) -> pa.Schema:
    """Schema of the held-out rows of a task of a kind."""
    own = [(GOLD, TRAINER_KINDS[kind].GOLD_TYPE), (CORRECTION, pa.list_(pa.float32()))]
    return pa.schema([*ARTICLE_FIELDS, *own])


class CheckpointInfo(BaseModel):
    """`checkpoint.json`: what the weights are for; written last, so it marks a whole folder."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: int = SCHEMA_VERSION
    config_sha256: str
    encoder: EncoderFacts
    max_tokens: int
    pad_id: int
    best_epoch: int
    """0 where no task was trained."""
    tasks: dict[TaskName, AnyCheckpointTask]


@dataclass(frozen=True)
class CheckpointFiles:
    """Paths inside a checkpoint folder."""

    folder: Path

    @property
    def info(self) -> Path:
        return self.folder / "checkpoint.json"

    @property
    def weights(self) -> Path:
        return self.folder / "model.safetensors"

    @property
    def tokenizer(self) -> Path:
        return self.folder / "tokenizer.json"

    @property
    def history(self) -> Path:
        return self.folder / "history.json"

    @property
    def curves(self) -> Path:
        return self.folder / "curves.png"

    @property
    def reference(self) -> Path:
        return self.folder / "reference.json"

    @property
    def state(self) -> Path:
        """State of a training run that is not finished."""
        return self.folder / "state"

    def heldout(self, task: str) -> Path:
        """Texts and gold labels that thresholds and calibration are found on."""
        return self.folder / "heldout" / f"{task}.parquet"

    def sample(self, task: str) -> Path:
        """Token ids of some training texts: they show the exporter what values activations take."""
        return self.folder / "sample" / f"{task}.parquet"

    def references(self, task: str) -> Path:
        """Ids of the reference texts of a task, in the order that its head has them."""
        return self.folder / "references" / f"{task}.parquet"


@dataclass(frozen=True)
class Checkpoint:
    """A finished checkpoint, opened."""

    files: CheckpointFiles
    info: CheckpointInfo
    model: MultiTaskModel
    tokenizer: Tokenizer

    @classmethod
    def open(cls, folder: Path) -> Checkpoint:
        """Load weights, tokenizer and facts. Raises CheckpointError if the folder is not whole."""
        files = CheckpointFiles(folder)
        info = read_info(files)
        try:
            # Traced, the plain attention has one mask a text and scales once, torch's fused one has
            # a mask for every token and scales twice: engines run the plain one a tenth faster.
            encoder = AutoModel.from_config(
                AutoConfig.from_pretrained(folder, trust_remote_code=False),
                attn_implementation="eager",
                trust_remote_code=False,
            )
            drop_pooler(encoder)
            tokenizer = Tokenizer.from_file(str(files.tokenizer))
            hidden = encoder.config.hidden_size
            heads = {
                task: TRAINER_KINDS[task_info.kind].head(
                    task_info.options,
                    HeadShape(
                        hidden,
                        len(task_info.labels),
                        markers=MarkerIds.of(tokenizer) if task_info.text.entity_markers else None,
                    ),
                )
                for task, task_info in info.tasks.items()
            }
            model = MultiTaskModel(encoder, heads)
            model.load_state_dict(load_file(files.weights))
        except Exception as error:  # torch, safetensors and tokenizers share no base class
            if needs_own_code(error):
                raise CheckpointError(
                    f"{folder}: its config.json asks for code of its own (`auto_map`), which is "
                    "never run"
                ) from error
            raise CheckpointError(
                f"{folder}: cannot be loaded: {error}",
                hint="a checkpoint is read by the version that wrote it; train again with "
                "--overwrite",
            ) from error
        return cls(files, info, model.eval(), tokenizer)

    def heldout(self, task: str) -> tuple[list[Article], list[Any]]:
        """Held-out articles of a task, and their gold values."""
        table, kind = self._heldout_table(task), self.info.tasks[task].kind
        rows = table.to_pylist()
        articles = [
            Article(row["text"], row["title"], row[ENTITY], row[START], row[END]) for row in rows
        ]
        gold = KINDS[kind].read_gold(table[GOLD].combine_chunks())
        self._check_gold(task, gold)
        return articles, gold

    def corrections(self, task: str) -> list[Float32Array] | None:
        """What turns the outputs of held-out texts into those of a model that has not seen them.

        None for a task whose model has not. Raises CheckpointError.
        """
        column = self._heldout_table(task)[CORRECTION]
        if column.null_count == len(column):
            return None
        width = self.model.head(task).width
        for row, correction in enumerate(column.to_pylist()):
            if correction is None or len(correction) != width:
                found = "none" if correction is None else f"one of {len(correction)} numbers"
                raise CheckpointError(
                    f"{self.files.heldout(task)}, row {row}: expected a correction of {width} "
                    f"numbers, found {found}",
                    hint="train again with --overwrite",
                )
        return [row.values.to_numpy() for row in column]

    def _heldout_table(self, task: str) -> pa.Table:
        path, kind = self.files.heldout(task), self.info.tasks[task].kind
        try:
            table = pq.read_table(path)
        except (OSError, pa.ArrowException) as error:
            raise CheckpointError(f"{path}: cannot be read: {error}") from error
        if not table.num_rows or not table.schema.equals(heldout_schema(kind)):
            raise CheckpointError(f"{path}: not the held-out rows that training writes")
        return table

    def _check_gold(self, task: str, gold: Sequence[Any]) -> None:
        """Refuse held-out rows without a gold value, or with a label that the task does not have.

        Raises CheckpointError.
        """
        path, task_info = self.files.heldout(task), self.info.tasks[task]
        for row, value in enumerate(gold):
            if value is None:
                raise CheckpointError(f"{path}, row {row}: no gold value")
            for label in KINDS[task_info.kind].gold_labels(value):
                if label not in task_info.labels:
                    raise CheckpointError(
                        f"{path}, row {row}: unknown label {label!r}",
                        hint=f"task {task!r} has {listing(task_info.labels)}",
                    )

    def sample(self, task: str) -> list[Int32Array]:
        """Token ids of some training texts of a task, each (seq,) int32."""
        path = self.files.sample(task)
        try:
            table = pq.read_table(path, schema=SAMPLE_SCHEMA)
        except (OSError, pa.ArrowException) as error:
            raise CheckpointError(f"{path}: cannot be read: {error}") from error
        return [row.values.to_numpy() for row in table["ids"]]

    def reference_ids(self, task: str) -> tuple[str, ...]:
        """Ids of the reference texts of a task, in the order that its head has them."""
        path = self.files.references(task)
        try:
            table = pq.read_table(path, schema=REFERENCES_SCHEMA)
        except (OSError, pa.ArrowException) as error:
            raise CheckpointError(
                f"{path}: cannot be read: {error}", hint="train again with --overwrite"
            ) from error
        return tuple(table[ID].to_pylist())


def read_info(files: CheckpointFiles) -> CheckpointInfo:
    """Read `checkpoint.json`. Raises CheckpointError if training has not finished there."""
    try:
        stored = parse_json(files.info.read_bytes())
    except FileNotFoundError as error:
        unfinished = files.state.exists()
        raise CheckpointError(
            f"{files.folder}: no finished checkpoint here",
            hint="training stopped early; run the same train-classifier command to resume"
            if unfinished
            else "make one with `train-classifier CONFIG.toml --output DIR`",
        ) from error
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{files.info}: cannot be read: {error}") from error
    version = stored.get("schema_version") if isinstance(stored, dict) else None
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise CheckpointError(
            f"{files.info}: schema_version {version} is newer than {SCHEMA_VERSION}",
            hint="upgrade narrascan",
        )
    try:
        return CheckpointInfo.model_validate(stored)
    except ValidationError as error:
        raise CheckpointError(
            f"{files.info}: not valid: {validation_problems(error, 'checkpoint')}",
            hint="train again with --overwrite",
        ) from error


def write_heldout(
    files: CheckpointFiles,
    heldout: Mapping[str, LabelledRows],
    kinds: Mapping[str, str],
    corrections: Corrections = MappingProxyType({}),
) -> None:
    """Write the held-out rows of every task, in place of those of an older run."""
    shutil.rmtree(files.folder / "heldout", ignore_errors=True)
    for task, rows in heldout.items():
        path = files.heldout(task)
        path.parent.mkdir(exist_ok=True)
        columns = {
            "text": [article.text for article in rows.articles],
            "title": [article.title for article in rows.articles],
            ENTITY: [article.entity for article in rows.articles],
            START: [article.start for article in rows.articles],
            END: [article.end for article in rows.articles],
            GOLD: list(rows.gold),
            CORRECTION: corrections.get(task, [None] * len(rows)),
        }
        table = pa.table(columns, schema=heldout_schema(kinds[task]))
        pq.write_table(table, path, compression="zstd")


def write_sample(files: CheckpointFiles, texts: Mapping[str, Sequence[Int32Array]]) -> None:
    """Write some training texts of every task, evenly over their lengths."""
    shutil.rmtree(files.folder / "sample", ignore_errors=True)
    for task, ids in texts.items():
        path = files.sample(task)
        path.parent.mkdir(exist_ok=True)
        by_length = sorted(ids, key=len)
        places = np.linspace(0, len(ids) - 1, min(SAMPLE_ROWS, len(ids))).astype(int)
        rows = [by_length[place] for place in places]
        pq.write_table(pa.table({"ids": rows}, schema=SAMPLE_SCHEMA), path, compression="zstd")


def write_references(files: CheckpointFiles, ids: Mapping[str, Sequence[str]]) -> None:
    """Write the ids of the reference texts of the tasks that have any."""
    shutil.rmtree(files.folder / "references", ignore_errors=True)
    for task, of_task in ids.items():
        path = files.references(task)
        path.parent.mkdir(exist_ok=True)
        table = pa.table({ID: of_task}, schema=REFERENCES_SCHEMA)
        pq.write_table(table, path, compression="zstd")
