"""Tasks that are trained by the same steps, or measured by the same runs of the encoder."""

from __future__ import annotations

from collections.abc import Hashable, Mapping

from schemas.config.models import TrainingRun
from schemas.text.windows import layout_of
from trainer.data.batches import TaskRows
from trainer.data.task_data import TaskData, TokenizedRows
from trainer.kinds.base import Objective


def tasks_that_share_rows(
    config: TrainingRun, data: Mapping[str, TaskData], objectives: Mapping[str, Objective]
) -> dict[str, tuple[str, ...]]:
    """Tasks that are trained by the same steps, by the first of them.

    They read the same texts, row by row, and draw every row once an epoch.
    """
    sampled = {
        name: objective.sampling(config.tasks[name])[0] != "none"
        for name, objective in objectives.items()
    }
    keys = {
        name: (name if sampled[name] else None, _texts_key(data[name], data[name].train))
        for name in objectives
    }
    return {names[0]: names for names in _grouped(keys)}


def tasks_that_share_held_out_rows(
    data: Mapping[str, TaskData], objectives: Mapping[str, Objective]
) -> tuple[tuple[str, ...], ...]:
    """Tasks whose held-out rows are the same texts, row by row: the encoder reads them once."""
    return _grouped({name: _texts_key(data[name], data[name].validation) for name in objectives})


def _texts_key(task: TaskData, rows: TokenizedRows) -> Hashable:
    return layout_of(task.windows), tuple(text.ids.tobytes() for text in rows.texts)


def _grouped(keys: Mapping[str, Hashable]) -> tuple[tuple[str, ...], ...]:
    """Names with equal keys, in the order of the first of each group."""
    groups: dict[Hashable, list[str]] = {}
    for name, key in keys.items():
        groups.setdefault(key, []).append(name)
    return tuple(tuple(names) for names in groups.values())


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
