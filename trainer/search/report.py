"""Report of a search: `search.json`, a table in `search.md`, and a plot of every parameter."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict

from schemas.io.files import atomic_path, write_atomic
from schemas.markdown import markdown_table, markdown_text
from schemas.printable import printable
from trainer.evaluation.pictures import picture_text, save_picture
from trainer.search.space import Choice, Dimension, Range

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Outcome = Literal["finished", "pruned", "failed", "stopped"]
"""`pruned`: worse than the median of the other trials after as many epochs. `failed`: ended with an
error. `stopped`: unfinished when the search ended; the same command resumes it."""


class TrialRecord(BaseModel):
    """One trial.

    folder: name of its training run's folder in the search folder. values: values of the searched
    keys, as in `--set`.
    metric, best_epoch: of the epoch whose weights it has so far; None before the first has ended.
    epochs: number of finished epochs. error: message of a failed trial.
    """

    model_config = ConfigDict(frozen=True)

    folder: str
    values: dict[str, str]
    state: Outcome
    metric: float | None
    best_epoch: int | None
    epochs: int
    seconds: float
    error: str | None = None


class SearchResult(BaseModel):
    """Content of `search.json`: every trial, in the order in which they began."""

    model_config = ConfigDict(frozen=True)

    metric_name: str
    trials: tuple[TrialRecord, ...]

    @property
    def best(self) -> TrialRecord | None:
        """The trial with the highest metric; of equal trials, one that finished."""
        trials = [trial for trial in self.trials if trial.metric is not None]
        return max(
            trials,
            key=lambda trial: (trial.metric, trial.state == "finished"),
            default=None,
        )


def set_options(trial: TrialRecord) -> str:
    """Command-line options that give a training run the values of a trial."""
    return " ".join(f"--set {key}={value}" for key, value in trial.values.items())


def write_report(result: SearchResult, folder: Path) -> None:
    """Write `search.json` and `search.md`, each atomically."""
    write_atomic(folder / "search.json", result.model_dump_json(indent=1))
    write_atomic(folder / "search.md", _markdown(result))


def _markdown(result: SearchResult) -> str:
    lines = ["# Search", ""]
    if result.best is not None:
        lines += [
            f"Best: {markdown_text(result.best.folder)}, {markdown_text(result.metric_name)} "
            f"{result.best.metric:.4f} in epoch {result.best.best_epoch}.",
            "",
            "```text",
            printable(set_options(result.best)),
            "```",
            "",
            "![Metric by parameter](search.png)",
            "",
        ]
    keys = list(dict.fromkeys(key for trial in result.trials for key in trial.values))
    head = ["trial", *keys, result.metric_name, "best epoch", "epochs", "minutes", "state"]
    ranked = sorted(result.trials, key=lambda trial: -1.0 if trial.metric is None else trial.metric)
    lines.append(markdown_table(head, [_cells(trial, keys) for trial in reversed(ranked)]))
    failed = [trial for trial in result.trials if trial.error is not None]
    lines += [f"- {markdown_text(f'{trial.folder}: {trial.error}')}" for trial in failed]
    return "\n".join(lines).rstrip("\n") + "\n"


def _cells(trial: TrialRecord, keys: Sequence[str]) -> list[str]:
    return [
        trial.folder,
        *(trial.values.get(key, "") for key in keys),
        "" if trial.metric is None else f"{trial.metric:.4f}",
        str(trial.best_epoch or ""),
        str(trial.epochs),
        f"{trial.seconds / 60:.1f}",
        trial.state,
    ]


def draw_search(result: SearchResult, space: Sequence[Dimension], folder: Path) -> None:
    """Plot the metric over each parameter: finished trials filled, the best one circled.

    Writes `search.png`, if any trial has a metric.
    """
    if result.best is None:
        return
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    columns = min(3, len(space))
    rows = -(-len(space) // columns)
    figure, grid = pyplot.subplots(
        rows,
        columns,
        figsize=(4 * columns, 3.2 * rows),
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    panels = grid.ravel()
    for axes, dimension in zip(panels, space, strict=False):
        _draw_dimension(axes, result, dimension)
    for axes in panels[len(space) :]:
        axes.set_visible(False)
    for axes in grid[:, 0]:
        axes.set_ylabel(picture_text(result.metric_name))
    with atomic_path(folder / "search.png") as temporary:
        save_picture(figure, temporary)
    pyplot.close(figure)


def _draw_dimension(axes: Axes, result: SearchResult, dimension: Dimension) -> None:
    for trial in result.trials:
        if trial.metric is None:
            continue
        position = _axis_position(dimension, trial.values[dimension.key])
        fill = "C0" if trial.state == "finished" else "none"
        axes.scatter(position, trial.metric, facecolors=fill, edgecolors="C0", alpha=0.8)
        if trial is result.best:
            axes.scatter(position, trial.metric, s=160, facecolors="none", edgecolors="C3")
    axes.set_title(picture_text(dimension.key), fontsize="medium")
    axes.grid(alpha=0.3)
    if isinstance(dimension, Choice):
        names = [picture_text(choice) for choice in dimension.choices]
        axes.set_xticks(range(len(names)), names)
        axes.set_xlim(-0.5, len(dimension.choices) - 0.5)
    elif dimension.log:
        axes.set_xscale("log")


def _axis_position(dimension: Range | Choice, value: str) -> float:
    if isinstance(dimension, Choice):
        return dimension.choices.index(value)
    return float(value)
