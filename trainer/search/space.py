"""Search space: the config keys that a search varies, and the values to try."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from optuna.trial import Trial

from schemas.config.files import load_config
from schemas.config.models import TrainingRun
from schemas.errors import ConfigError, UsageError
from trainer.training.loop import check_objectives

GRAMMAR = (
    "KEY=LOW..HIGH for a range (of integers if both ends are integers), KEY=log:LOW..HIGH for a "
    "range searched on a logarithmic scale, KEY=A,B,C for choices"
)
_NUMBER = r"[+-]?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?"
_RANGE = re.compile(rf"(log:)?({_NUMBER})\.\.({_NUMBER})")
_INTEGER = re.compile(r"[+-]?\d+")


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, both included."""

    key: str
    low: float
    high: float
    log: bool
    is_integer: bool

    def suggest(self, trial: Trial) -> str:
        """Let the sampler pick a value, written as in the config."""
        if self.is_integer:
            low, high = int(self.low), int(self.high)
            return self.write(trial.suggest_int(self.key, low, high, log=self.log))
        return self.write(trial.suggest_float(self.key, self.low, self.high, log=self.log))

    def write(self, value: float) -> str:
        """Write a value as in the config: integers in full, others with four significant digits.

        Values that agree in four digits do not train differently.
        """
        if self.is_integer:
            return str(int(value))
        rounded = min(max(float(f"{value:.4g}"), self.low), self.high)
        return repr(rounded)

    @property
    def extremes(self) -> tuple[str, ...]:
        """Values to check before a search begins: if both ends are valid, so are those between."""
        return self.write(self.low), self.write(self.high)


@dataclass(frozen=True)
class Choice:
    """A set of values to choose from, written as in `--set`."""

    key: str
    choices: tuple[str, ...]

    def suggest(self, trial: Trial) -> str:
        """Let the sampler pick a value."""
        return str(trial.suggest_categorical(self.key, self.choices))

    @property
    def extremes(self) -> tuple[str, ...]:
        """Values to check before a search begins: all of them."""
        return self.choices


Dimension: TypeAlias = Range | Choice

METRIC_KEYS = ("train.metric", "train.metric_tasks")


def parse_space(texts: Sequence[str]) -> tuple[Dimension, ...]:
    """Read `--space` options, see `GRAMMAR`.

    Raises UsageError that lists every problem, each with its key.
    """
    space: list[Dimension] = []
    problems = [] if texts else ["  the search space is empty: no --space was given"]
    for text in texts:
        key = text.partition("=")[0].strip()
        if any(dimension.key == key for dimension in space):
            problems.append(f"  {key}: is given twice")
            continue
        try:
            space.append(_parse(text))
        except ValueError as error:
            problems.append(f"  {key or '(no key)'}: {error}")
    if problems:
        raise UsageError("\n".join(["--space:", *problems]), hint=GRAMMAR)
    return tuple(space)


def _parse(text: str) -> Dimension:
    key, equals, values = (part.strip() for part in text.partition("="))
    if not key or not equals or not values:
        raise ValueError(f"{text!r} is not KEY=VALUES")
    match = _RANGE.fullmatch(values)
    if match is not None:
        return _range(key, *match.groups())
    choices = tuple(choice.strip() for choice in values.split(","))
    if len(choices) < 2:
        raise ValueError(f"{values!r} is neither a range nor several choices")
    if "" in choices or len(set(choices)) < len(choices):
        raise ValueError(f"{values!r} has a blank or duplicate choice")
    return Choice(key, choices)


def _range(key: str, log: str | None, low_text: str, high_text: str) -> Range:
    low, high = float(low_text), float(high_text)
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError(f"{low_text}..{high_text} has an end that is not a finite number")
    if low >= high:
        raise ValueError(f"{low_text} is not below {high_text}")
    if log and low <= 0:
        raise ValueError(f"{low_text} is not positive; a log: range must begin above 0")
    is_integer = all(_INTEGER.fullmatch(text) for text in (low_text, high_text))
    return Range(key, low, high, bool(log), is_integer)


def check_space(config: Path, overrides: Sequence[str], space: Sequence[Dimension]) -> TrainingRun:
    """Load the config, and check that it accepts every choice and both ends of every range.

    Returns the config without the space. Raises UsageError that lists every value refused, or
    ConfigError for the config itself.
    """
    base = load_config(config, overrides)
    values = [f"{dimension.key}={value}" for dimension in space for value in dimension.extremes]
    refusals = {text: _refusal(config, [*overrides, text]) for text in values}
    refusals |= {
        dimension.key: "trials are compared by this metric, so that it must be the same for all"
        for dimension in space
        if dimension.key in METRIC_KEYS
    }
    problems = [f"  {text}: {refusal}" for text, refusal in refusals.items() if refusal]
    if problems:
        raise UsageError(
            "\n".join(["--space:", *problems]), hint="every key is described in docs/config.md"
        )
    return base


def _refusal(config: Path, overrides: Sequence[str]) -> str | None:
    try:
        check_objectives(load_config(config, overrides))
    except (ConfigError, UsageError) as error:
        return error.message.partition("\n")[2].strip() or error.message
    return None
