"""`--set TASK.KEY=VALUE`: choosing calibration and thresholds anew, without training again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from pydantic import BaseModel, ValidationError

from schemas.config import DecisionConfig, apply_override
from schemas.errors import ConfigError, UsageError, listing, nearest


def apply_settings(
    decisions: Mapping[str, DecisionConfig], settings: Sequence[str]
) -> dict[str, DecisionConfig]:
    """Change the decisions of a checkpoint's tasks: "topics.thresholds.strategy=global".

    Raises UsageError that lists every problem, and the tasks or keys there are.
    """
    stored: dict[str, object] = {task: about.model_dump() for task, about in decisions.items()}
    problems = [problem for setting in settings if (problem := _apply(stored, setting, decisions))]
    changed: dict[str, DecisionConfig] = {}
    for task, values in stored.items():
        try:
            changed[task] = DecisionConfig.model_validate(values)
        except ValidationError as error:
            problems += [
                f"{'.'.join((task, *map(str, found['loc'])))}: "
                + found["msg"].removeprefix("Value error, ")
                for found in error.errors()
            ]
    if problems:
        raise UsageError(
            "--set: " + "\n  ".join(problems),
            hint="as in --set topics.calibration=isotonic; every key is described in "
            "docs/config.md under `decision`",
        )
    return changed


def _apply(
    stored: dict[str, object], setting: str, decisions: Mapping[str, DecisionConfig]
) -> str | None:
    """Apply one setting, or say what is wrong with it."""
    key, equals, _ = setting.partition("=")
    task, dot, rest = key.partition(".")
    if not (equals and dot and rest):
        return f"{setting!r}: expected TASK.KEY=VALUE"
    if task not in decisions:
        return _unknown(setting, "task", task, list(decisions))
    keys = list(_keys(DecisionConfig))
    if rest not in keys:
        return _unknown(setting, "key", rest, keys)
    try:
        apply_override(stored, setting)
    except ConfigError as error:
        return error.message
    return None


def _unknown(setting: str, what: str, found: str, known: list[str]) -> str:
    close = nearest(found, known)
    guess = f"did you mean {close!r}? " if close else ""
    return f"{setting!r}: unknown {what} {found!r}; {guess}There are {listing(known)}"


def _keys(section: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Every key of a section that holds a value, with those of the sections inside it."""
    for name, field in section.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _keys(field.annotation, f"{prefix}{name}.")
        else:
            yield prefix + name
