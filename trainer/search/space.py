"""Which values of which config keys a search tries."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from optuna.trial import Trial

from schemas.config import TrainingRun, load_config
from schemas.errors import ConfigError
from trainer.training.loop import check_losses

GRAMMAR = (
    "KEY=LOW..HIGH for a range (of whole numbers if both are), KEY=log:LOW..HIGH for one searched "
    "by order of magnitude, KEY=A,B,C for choices"
)
_NUMBER = r"[+-]?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?"
_RANGE = re.compile(rf"(log:)?({_NUMBER})\.\.({_NUMBER})")
_WHOLE = re.compile(r"[+-]?\d+")


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, both included."""

    key: str
    low: float
    high: float
    log: bool
    whole: bool

    def suggest(self, trial: Trial) -> str:
        """Let the sampler pick a value, written as the config has it."""
        if self.whole:
            low, high = int(self.low), int(self.high)
            return self.write(trial.suggest_int(self.key, low, high, log=self.log))
        return self.write(trial.suggest_float(self.key, self.low, self.high, log=self.log))

    def write(self, value: float) -> str:
        """Four digits tell any two values apart that could train differently."""
        if self.whole:
            return str(int(value))
        rounded = min(max(float(f"{value:.4g}"), self.low), self.high)
        return repr(rounded)

    @property
    def extremes(self) -> tuple[str, ...]:
        """Values to check before a search begins: if both ends are valid, so is what is between."""
        return self.write(self.low), self.write(self.high)


@dataclass(frozen=True)
class Choice:
    """One of some values, written as in `--set`."""

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


def parse_space(texts: Sequence[str]) -> tuple[Dimension, ...]:
    """Read `--space` options, see `GRAMMAR`.

    Raises ConfigError that lists every problem, each with its key.
    """
    space: list[Dimension] = []
    problems = [] if texts else ["  nothing to search: no --space was given"]
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
        raise ConfigError("\n".join(["--space:", *problems]), hint=GRAMMAR)
    return tuple(space)


def _parse(text: str) -> Dimension:
    key, equals, values = (part.strip() for part in text.partition("="))
    if not key or not equals or not values:
        raise ValueError(f"{text!r} is not KEY=VALUES")
    found = _RANGE.fullmatch(values)
    if found is not None:
        return _range(key, *found.groups())
    choices = tuple(choice.strip() for choice in values.split(","))
    if len(choices) < 2:
        raise ValueError(f"{values!r} is neither a range nor several choices")
    if "" in choices or len(set(choices)) < len(choices):
        raise ValueError(f"{values!r} has a choice that is blank or doubled")
    return Choice(key, choices)


def _range(key: str, log: str | None, low_text: str, high_text: str) -> Range:
    low, high = float(low_text), float(high_text)
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError(f"{low_text}..{high_text} has an end that is not a finite number")
    if low >= high:
        raise ValueError(f"{low_text} is not below {high_text}")
    if log and low <= 0:
        raise ValueError(f"{low_text} has no order of magnitude; log: begins above 0")
    whole = all(_WHOLE.fullmatch(text) for text in (low_text, high_text))
    return Range(key, low, high, bool(log), whole)


def check_space(config: Path, overrides: Sequence[str], space: Sequence[Dimension]) -> TrainingRun:
    """Load the config, and make sure that it takes every choice and both ends of every range.

    Returns the config without the space. Raises ConfigError that lists every value refused.
    """
    base = load_config(config, overrides)
    tried = [f"{dimension.key}={value}" for dimension in space for value in dimension.extremes]
    refusals = {text: _refusal(config, [*overrides, text]) for text in tried}
    problems = [f"  {text}: {refusal}" for text, refusal in refusals.items() if refusal]
    if problems:
        raise ConfigError(
            "\n".join(["--space:", *problems]), hint="every key is described in docs/config.md"
        )
    return base


def _refusal(config: Path, overrides: Sequence[str]) -> str | None:
    try:
        check_losses(load_config(config, overrides))
    except ConfigError as error:
        return error.message.partition("\n")[2].strip() or error.message
    return None
