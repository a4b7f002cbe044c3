"""What is remembered of each epoch, and the picture of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from schemas.decision.metrics import F1Scores
from schemas.errors import CheckpointError
from schemas.io.files import atomic_path
from schemas.validation import validation_problems
from trainer.evaluation.pictures import picture_text, save_picture

MARGINS = {"left": 0.08, "right": 0.985, "top": 0.92, "bottom": 0.13, "wspace": 0.16}
"""Relative to the width and height of the picture; measuring them would double its time."""


class EpochScores(F1Scores):
    """Scores of one task after an epoch, with whatever its kind adds."""

    model_config = ConfigDict(extra="allow")


class EpochRecord(BaseModel):
    """One epoch.

    loss, validation_loss: mean loss by task, of the training steps and of the held-out rows.
    validation: scores by task. metric: what picks the best.
    metric_error: its standard error, see `mean_metric`.
    """

    model_config = ConfigDict(frozen=True)

    epoch: int
    loss: dict[str, float]
    validation_loss: dict[str, float]
    validation: dict[str, EpochScores]
    metric: float
    metric_error: float
    learning_rate: float
    seconds: float
    articles_per_s: float
    tokens_per_s: float


class History(BaseModel):
    """`history.json`: every epoch so far."""

    metric_name: str
    epochs: list[EpochRecord] = []

    @property
    def best(self) -> EpochRecord | None:
        """The last epoch that is no more than a standard error below the highest metric.

        The rate falls to 0, so that of epochs that the held-out rows cannot tell apart the last has
        learned most.
        Source: the one-standard-error rule of Breiman, Friedman, Olshen, Stone (1984),
        Classification and Regression Trees, for epochs.
        """
        highest = max(self.epochs, key=lambda record: record.metric, default=None)
        if highest is None:
            return None
        least = highest.metric - highest.metric_error
        return next(record for record in reversed(self.epochs) if record.metric >= least)

    def epochs_since_best(self) -> int:
        """Epochs that have passed since that one."""
        return 0 if self.best is None else self.epochs[-1].epoch - self.best.epoch


def mean_metric(
    scores: Sequence[EpochScores], metric: Literal["micro_f1", "macro_f1", "mean_f1"]
) -> tuple[float, float]:
    """Mean metric m of tasks, and its standard error, that of a share: sqrt(m (1 - m) / n).

    n: held-out rows of the task with the fewest, times the number of tasks.
    """
    mean = fmean(metric_value(one, metric) for one in scores)
    rows = min(one.rows for one in scores)
    return mean, math.sqrt(max(mean * (1 - mean), 0.0) / max(rows * len(scores), 1))


def metric_value(scores: F1Scores, metric: Literal["micro_f1", "macro_f1", "mean_f1"]) -> float:
    """The metric of one task."""
    if metric == "mean_f1":
        return (scores.micro_f1 + scores.macro_f1) / 2
    return scores.micro_f1 if metric == "micro_f1" else scores.macro_f1


def read_history(path: Path) -> History:
    """The history that a run wrote. Raises CheckpointError if it cannot be read or is damaged."""
    try:
        return History.model_validate_json(path.read_bytes())
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from error
    except ValidationError as error:
        raise CheckpointError(
            f"{path}: is damaged: {validation_problems(error, 'history')}",
            hint="train again with --overwrite",
        ) from error


def draw_curves(history: History, path: Path) -> None:
    """Draw loss and validation scores by epoch, one color a task."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot
    from matplotlib.ticker import MaxNLocator

    figure, (losses, scores) = pyplot.subplots(1, 2, figsize=(11, 4), gridspec_kw=MARGINS)
    epochs = [record.epoch for record in history.epochs]
    for color, task in enumerate(history.epochs[0].loss):
        style = f"C{color}"
        for kind, dash in (("loss", "-"), ("validation_loss", "--")):
            values = [getattr(record, kind)[task] for record in history.epochs]
            label = f"{picture_text(task)}, {'training' if kind == 'loss' else 'held out'}"
            losses.plot(epochs, values, style, linestyle=dash, marker="o", label=label)
        for name, dash in (("micro_f1", "-"), ("macro_f1", "--")):
            values = [getattr(r.validation[task], name) for r in history.epochs]
            label = f"{picture_text(task)}, {name.replace('_f1', ' F1')}"
            scores.plot(epochs, values, style, linestyle=dash, marker="o", label=label)
    losses.set(title="Loss", xlabel="epoch", yscale="log")
    scores.set(title="Held-out rows, best single threshold", xlabel="epoch", ylim=(0, 1))
    if history.best is not None:
        scores.axvline(history.best.epoch, color="0.6", linewidth=1, zorder=0)
        place = {"xytext": (-4, 0), "textcoords": "offset points", "ha": "right"}
        scores.annotate("best", (history.best.epoch, 0.02), **place)
    for axes in (losses, scores):
        axes.grid(alpha=0.3)
        axes.legend(
            frameon=False, fontsize="small", loc="upper right" if axes is losses else "lower right"
        )
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    with atomic_path(path) as temporary:
        save_picture(figure, temporary)
    pyplot.close(figure)
