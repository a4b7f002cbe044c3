"""`--set`: other calibration and thresholds, without training again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from schemas.config.files import apply_override
from schemas.errors import UsageError, listing, nearest
from schemas.tasks.sections import Section

SectionT = TypeVar("SectionT", bound=BaseModel)


def apply_settings(decisions: Mapping[str, Section], settings: Sequence[str]) -> dict[str, Section]:
    """Change the decisions of a checkpoint's tasks: "topics.thresholds.strategy=global".

    Raises UsageError that lists every problem, and the tasks or keys there are.
    """
    by_task: dict[str, dict[str, object]] = {
        task: decision.model_dump() for task, decision in decisions.items()
    }
    models = {task: type(decision) for task, decision in decisions.items()}
    problems = [
        problem for setting in settings if (problem := _apply_to_task(by_task, models, setting))
    ]
    problems += [
        f"{task}.{problem}"
        for task, values in by_task.items()
        for problem in _invalid(models[task], values)
    ]
    _refuse(problems, example="topics.calibration=isotonic")
    return {task: models[task].model_validate(values) for task, values in by_task.items()}


def change_decision(decision: SectionT, settings: Sequence[str]) -> SectionT:
    """Change how one task decides: "thresholds.strategy=global".

    Raises UsageError that lists every problem, and the keys there are.
    """
    values: dict[str, object] = decision.model_dump()
    problems = []
    for setting in settings:
        key, equals, _ = setting.partition("=")
        if not (equals and key):
            problems.append(f"{setting!r}: expected KEY=VALUE")
        elif problem := _apply(values, type(decision), setting, key, shown=setting):
            problems.append(problem)
    problems += _invalid(type(decision), values)
    _refuse(problems, example="calibration=isotonic")
    return type(decision).model_validate(values)


def _apply_to_task(
    by_task: dict[str, dict[str, object]], models: Mapping[str, type[BaseModel]], setting: str
) -> str | None:
    """Apply one TASK.KEY=VALUE, or say what is wrong with it."""
    key, equals, value = setting.partition("=")
    task, dot, rest = key.partition(".")
    if not (equals and dot and rest):
        return f"{setting!r}: expected TASK.KEY=VALUE"
    if task not in by_task:
        return _unknown(setting, "task", task, list(by_task))
    return _apply(by_task[task], models[task], f"{rest}={value}", rest, shown=setting)


def _apply(
    values: dict[str, object], model: type[BaseModel], setting: str, key: str, *, shown: str
) -> str | None:
    """Apply one KEY=VALUE, or say what is wrong with it."""
    keys = list(_keys(model))
    if key not in keys:
        return _unknown(shown, "key", key, keys)
    try:
        apply_override(values, setting)
    except UsageError as error:
        return error.message
    return None


def _invalid(model: type[BaseModel], values: dict[str, object]) -> list[str]:
    """What is wrong with the values of a decision, each with its key."""
    try:
        model.model_validate(values)
    except ValidationError as error:
        return [
            f"{'.'.join(map(str, found['loc']))}: {found['msg'].removeprefix('Value error, ')}"
            for found in error.errors()
        ]
    return []


def _refuse(problems: list[str], *, example: str) -> None:
    if problems:
        raise UsageError(
            "--set: " + "\n  ".join(problems),
            hint=f"as in --set {example}; every key is described in docs/config.md under "
            "`decision`",
        )


def _unknown(setting: str, what: str, found: str, known: list[str]) -> str:
    close = nearest(found, known)
    guess = f"did you mean {close!r}? " if close else ""
    return f"{setting!r}: unknown {what} {found!r}; {guess}There are {listing(known)}"


def _keys(section: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Every key of a section that contains a value, with those of the sections inside it."""
    for name, field in section.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _keys(field.annotation, f"{prefix}{name}.")
        else:
            yield prefix + name
