"""What the data of one task depends on, out of the whole config."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from schemas.config.models import FoldConfig, TaskConfig, TrainingRun
from schemas.kinds import KINDS, AnyKind
from schemas.text.model_text import Article, ModelText, TextSpec, model_text
from schemas.text.windows import WindowSpec, most_tokens


@dataclass(frozen=True)
class TaskSpec:
    """One task of a config, with the settings of the run that its rows depend on.

    max_tokens: tokens that the model reads at once. seed: of splits. fold: rows that training
    leaves out to be tested on, if any.
    """

    name: str
    task: TaskConfig
    max_tokens: int
    seed: int
    fold: FoldConfig | None

    @classmethod
    def of(cls, config: TrainingRun, name: str) -> Self:
        """The task `name` of a config."""
        return cls(name, config.tasks[name], config.encoder.max_tokens, config.seed, config.fold)

    @property
    def kind(self) -> AnyKind:
        """Kind of the task."""
        return KINDS[self.task.kind]

    @property
    def text(self) -> TextSpec:
        """How the text of the task is built."""
        return TextSpec(
            title=self.task.title,
            entity_markers=self.task.entity_markers,
            truncation=self.task.truncation,
            entity_tokens=self.task.entity_tokens,
        )

    @property
    def windows(self) -> WindowSpec | None:
        """Windows in which long texts are read, if any."""
        return self.task.window_spec(self.max_tokens)

    def model_text(self, article: Article) -> ModelText:
        """What the model reads of an article. Raises ValueError for a wrong entity span."""
        most = most_tokens(self.windows, self.max_tokens)
        return model_text(article, self.text, max_tokens=most, keep_source=self.kind.NEEDS_WORDS)
