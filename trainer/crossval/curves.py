"""The picture of a cross-validation: how each fold learned, epoch by epoch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from trainer.evaluation.history import History
from trainer.evaluation.pictures import picture_text, save_picture

TRAINING, HELD_OUT = "C0", "C1"
MICRO, MACRO = "C2", "C4"


def draw_fold_curves(histories: Sequence[History], path: Path) -> None:
    """Draw loss and held-out F1 by epoch, one thin line a fold, a dot at its best epoch.

    One row of panels a task. path: of the PNG.
    """
    tasks = list(histories[0].epochs[0].loss)
    figure = Figure(figsize=(11, 3.9 * len(tasks)), layout="constrained")
    panels = figure.subplots(len(tasks), 2, squeeze=False)
    for task, (losses, scores) in zip(tasks, panels, strict=True):
        for history in histories:
            epochs = history.epochs
            validation = [record.validation[task] for record in epochs]
            _line(losses, history, [record.loss[task] for record in epochs], TRAINING)
            _line(losses, history, [record.validation_loss[task] for record in epochs], HELD_OUT)
            _line(scores, history, [each.micro_f1 for each in validation], MICRO)
            _line(scores, history, [each.macro_f1 for each in validation], MACRO)
        losses.set(title=f"{picture_text(task)}: loss", yscale="log")
        scores.set(title=f"{picture_text(task)}: F1 on held-out rows, best single threshold")
        scores.set_ylim(top=1.0)
        _legend(losses, {"training": TRAINING, "held out": HELD_OUT})
        _legend(scores, {"micro-F1": MICRO, "macro-F1": MACRO})
    for axes in panels.flat:
        axes.set_xlabel(f"epoch (one line a fold, {len(histories)} folds; dot: best epoch)")
        axes.grid(alpha=0.3)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    save_picture(figure, path)


def _line(axes: Axes, history: History, values: Sequence[float], color: str) -> None:
    epochs = [record.epoch for record in history.epochs]
    axes.plot(epochs, values, color, linewidth=0.9, alpha=0.8)
    if history.best is not None:
        best = history.epochs.index(history.best)
        axes.plot(epochs[best], values[best], color, marker="o", markersize=4)


def _legend(axes: Axes, colors: dict[str, str]) -> None:
    handles = [Line2D([], [], color=color, label=name) for name, color in colors.items()]
    axes.legend(handles=handles, frameon=False)
