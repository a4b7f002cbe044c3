"""Reading of config files, replacement of single values, and messages about wrong ones."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from schemas.config.models import (
    DataConfig,
    EncoderConfig,
    FoldConfig,
    TrainConfig,
    TrainingRun,
    task_model,
)
from schemas.errors import ConfigError, UsageError, nearest
from schemas.kinds import KINDS


def load_config(path: Path, overrides: Sequence[str] = ()) -> TrainingRun:
    """Read a config file and apply `key=value` overrides ("train.epochs=3").

    Paths of data sets are taken relative to the config file's folder.
    Raises ConfigError that lists every problem, each with its key; UsageError where an override is
    one of them.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not TOML: {error}") from error
    for override in overrides:
        apply_override(values, override)
    try:
        config = TrainingRun.model_validate(values)
    except ValidationError as error:
        hint = "every key is described in docs/config.md"
        if any(
            _concerns(problem, override) for problem in error.errors() for override in overrides
        ):
            raise UsageError(f"--set: {_problems(path, error)}", hint=hint) from error
        raise ConfigError(_problems(path, error), hint=hint) from error
    return _resolve_paths(config, path.parent)


def apply_override(values: dict[str, object], override: str) -> None:
    """Set one value of a config that is not checked yet, "train.epochs=3", in place.

    Raises UsageError if it is not key=value, or its key leads through a value.
    """
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise UsageError(f"--set {override!r}: expected key=value, as in train.epochs=3")
    try:
        parsed = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        parsed = {}
    value: object = parsed["value"] if len(parsed) == 1 else text  # a bare word is a string
    here: object = values
    steps = key.split(".")
    for step in steps[:-1]:
        here = _enter(here, step, override)
    if isinstance(here, list):
        raise UsageError(f"--set {override!r}: {steps[-1]!r} cannot replace an item of a list")
    assert isinstance(here, dict)
    here[steps[-1]] = value


def _enter(here: object, step: str, override: str) -> object:
    if isinstance(here, dict):
        item: object = here.setdefault(step, {})
    elif isinstance(here, list) and step.isdecimal() and int(step) < len(here):
        item = here[int(step)]
    else:
        raise UsageError(f"--set {override!r}: no {step!r} in the config")
    if not isinstance(item, dict | list):
        raise UsageError(f"--set {override!r}: {step!r} is a value, not a section")
    return item


def _problems(path: Path, error: ValidationError) -> str:
    lines = []
    errors = error.errors()
    for problem in errors:
        if problem["type"] == "too_short" and any(_inside(other, problem) for other in errors):
            continue  # pydantic counts items that are wrong as missing
        key = ".".join(_key(problem["loc"])) or "(whole file)"
        if problem["type"] == "extra_forbidden":
            close = nearest(str(problem["loc"][-1]), _known_keys())
            text = "unknown key" + (f"; did you mean {close!r}?" if close else "")
        elif problem["type"] == "unknown_kind":
            key += ".kind"
            text = f"{problem['msg']} (found {problem['input'].get('kind')!r:.80})"
        elif problem["type"] == "missing":
            text = "is needed and missing"
        else:
            text = (
                f"{problem['msg'].removeprefix('Value error, ')} (found {problem['input']!r:.80})"
            )
        lines.append(f"  {key}: {text}")
    count = len(lines)
    return f"{path}: {count} problem{'s' if count != 1 else ''}\n" + "\n".join(lines)


def _key(location: tuple[int | str, ...]) -> list[str]:
    """Keys of the file that lead to a value; pydantic adds the kind of a task after its name."""
    keys = [str(part) for part in location]
    if keys[:1] == ["tasks"]:
        del keys[2:3]
    return keys


def _concerns(problem: ErrorDetails, override: str) -> bool:
    """True if a problem is of the key that an override sets, or of a section with or in it."""
    key, replaced = _key(problem["loc"]), override.partition("=")[0].split(".")
    depth = min(len(key), len(replaced))
    return depth > 0 and key[:depth] == replaced[:depth]


def _inside(problem: ErrorDetails, outer: ErrorDetails) -> bool:
    depth = len(outer["loc"])
    return len(problem["loc"]) > depth and problem["loc"][:depth] == outer["loc"]


def _known_keys() -> set[str]:
    tasks = [task_model(kind) for kind in KINDS]
    sections: tuple[type[BaseModel], ...] = (
        TrainingRun,
        EncoderConfig,
        TrainConfig,
        *tasks,
        DataConfig,
        FoldConfig,
    )
    return {key.rpartition(".")[2] for section in sections for key in nested_keys(section)}


def nested_keys(section: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Every key of a section, with those of the sections inside it."""
    for name, field in section.model_fields.items():
        yield prefix + name
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from nested_keys(field.annotation, f"{prefix}{name}.")


def _resolve_paths(config: TrainingRun, folder: Path) -> TrainingRun:
    tasks = {
        name: task.model_copy(
            update={
                "data": tuple(
                    data.model_copy(update={"path": folder / data.path}) for data in task.data
                )
            }
        )
        for name, task in config.tasks.items()
    }
    encoder = config.encoder
    if encoder.start_from is not None:
        encoder = encoder.model_copy(update={"start_from": folder / encoder.start_from})
    return config.model_copy(update={"tasks": tasks, "encoder": encoder})
