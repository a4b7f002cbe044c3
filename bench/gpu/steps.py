"""Steps of a benchmark that is run unattended: each leaves its facts in a file, failed or not."""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path

import click

Facts = Mapping[str, object]
"""What a step measured; JSON values."""


def read_steps(file: Path) -> dict[str, Facts]:
    """Facts of the steps that were run so far, by name. Raises OSError if there are none."""
    steps: dict[str, Facts] = json.loads(file.read_text(encoding="utf-8"))
    return steps


class Steps:
    """Facts of finished steps in a JSON file, written after every one of them.

    file: added to if it exists, so that a later run replaces the steps that it repeats.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self.facts = read_steps(file) if file.exists() else {}

    def run(self, name: str, step: Callable[[], Facts]) -> Facts:
        """Run a step and store its facts, or its error; the next step runs either way."""
        started = time.monotonic()
        try:
            facts = {"passed": True, **step()}
        except Exception:
            facts = {"passed": False, "error": traceback.format_exc(limit=-3)}
        self.facts[name] = {**facts, "seconds": round(time.monotonic() - started, 1)}
        self._file.parent.mkdir(parents=True, exist_ok=True)
        self._file.write_text(json.dumps(self.facts, indent=1) + "\n", encoding="utf-8")
        shown = {key: value for key, value in self.facts[name].items() if key != "series"}
        click.echo(f"{name}: {json.dumps(shown)[:1500]}")
        return self.facts[name]

    @property
    def failed(self) -> list[str]:
        """Steps that did not pass."""
        return [name for name, facts in self.facts.items() if not facts["passed"]]
