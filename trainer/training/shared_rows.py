"""Tasks that are trained by the same steps."""

from __future__ import annotations

from collections.abc import Mapping

from schemas.config.models import TrainingRun
from schemas.text.windows import layout_of
from trainer.data.batches import TaskRows
from trainer.data.task_data import TaskData
from trainer.kinds.base import Objective


def tasks_that_share_rows(
    config: TrainingRun, data: Mapping[str, TaskData], objectives: Mapping[str, Objective]
) -> dict[str, tuple[str, ...]]:
    """Tasks that are trained by the same steps, by the first of them.

    They read the same texts, row by row, and draw every row once an epoch.
    """
    groups: dict[object, list[str]] = {}
    for name, objective in objectives.items():
        task = data[name]
        sampled = objective.sampling(config.tasks[name])[0] != "none"
        alone = name if sampled else None
        key = (
            alone,
            layout_of(task.windows),
            tuple(text.ids.tobytes() for text in task.train.texts),
        )
        groups.setdefault(key, []).append(name)
    return {names[0]: tuple(names) for names in groups.values()}


def rows_of_steps(
    config: TrainingRun,
    data: Mapping[str, TaskData],
    objectives: Mapping[str, Objective],
    sharing: Mapping[str, tuple[str, ...]],
) -> dict[str, TaskRows]:
    """Training rows that the steps of an epoch are planned over, by the first task of each step.

    sharing: tasks of the same steps.
    """
    rows = {}
    for name in sharing:
        train = data[name].train
        sampling, threshold = objectives[name].sampling(config.tasks[name])
        rows[name] = TaskRows(train.lengths, train.labels, sampling, threshold)
    return rows
