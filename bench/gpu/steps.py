"""Steps of an unattended benchmark, whose results or errors are written to a file."""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path

import click

Facts = Mapping[str, object]
"""Results of a step; JSON values."""


def read_steps(file: Path) -> dict[str, Facts]:
    """Results of the finished steps by name. Raises OSError if there are none."""
    steps: dict[str, Facts] = json.loads(file.read_text(encoding="utf-8"))
    return steps


class Steps:
    """Results of finished steps in a JSON file, which is written after every step.

    file: extended if it exists; a later run replaces the steps that it repeats.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self.facts = read_steps(file) if file.exists() else {}

    def run(self, name: str, step: Callable[[], Facts]) -> Facts:
        """Run a step and write its results, or its error; later steps run in either case."""
        started = time.monotonic()
        try:
            facts = {"passed": True, **step()}
        except Exception:
            facts = {"passed": False, "error": traceback.format_exc(limit=-3)}
        self.facts[name] = {**facts, "seconds": round(time.monotonic() - started, 1)}
        self._file.parent.mkdir(parents=True, exist_ok=True)
        self._file.write_text(json.dumps(self.facts, indent=1) + "\n", encoding="utf-8")
        printed = {key: value for key, value in self.facts[name].items() if key != "series"}
        click.echo(f"{name}: {json.dumps(printed)[:1500]}")
        return self.facts[name]

    @property
    def failed(self) -> list[str]:
        """Names of the failed steps."""
        return [name for name, facts in self.facts.items() if not facts["passed"]]
