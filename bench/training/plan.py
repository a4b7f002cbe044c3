"""The plan of the loss benchmark, read from `losses.toml`."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

from bench.training.baselines import BaselineName
from bench.training.losses_page import Schedule

PLAN = Path(__file__).with_name("losses.toml")
TASK = "topics"


@dataclass(frozen=True)
class PlannedRun:
    """A training run. start_from: folder of the checkpoint whose weights it starts from."""

    name: str
    schedule: Schedule
    seed: int
    overrides: tuple[str, ...] = ()
    start_from: Path | None = None

    @property
    def folder(self) -> str:
        """Name of its checkpoint folder."""
        name = "".join(letter if letter.isalnum() else "-" for letter in self.name)
        return f"{self.schedule}-{name}-{self.seed}"


@dataclass(frozen=True)
class Plan:
    """Contents of `losses.toml`; overrides are `KEY=VALUE` of the config.

    base: overrides of all runs except the recipe. warmup, after: overrides of the common warm-up
    and of the runs that start from it, with the losses `deferred`. whole: losses trained from the
    start, with the `best` deferred ones. overrides: of all runs of the spot check.
    """

    seeds: tuple[int, ...]
    baselines: tuple[BaselineName, ...]
    deferred: tuple[str, ...]
    warmup: tuple[str, ...]
    after: tuple[str, ...]
    whole: tuple[str, ...]
    best: int
    variants: tuple[tuple[str, tuple[str, ...]], ...]
    base: tuple[str, ...]
    overrides: tuple[str, ...] = ()

    @classmethod
    def read(cls, *, fast: bool) -> Plan:
        """Read the plan, or its spot check."""
        plan = tomllib.loads(PLAN.read_text(encoding="utf-8"))
        fast_plan, deferred, whole = plan["fast"], plan["deferred"], plan["whole"]
        common = fast_plan if fast else plan
        variants = [] if fast else plan["variants"]
        return cls(
            seeds=tuple(common["seeds"]),
            baselines=tuple(common["baselines"]),
            deferred=tuple(fast_plan["losses"] if fast else deferred["losses"]),
            warmup=tuple(deferred["warmup"]),
            after=tuple(deferred["after"]),
            whole=tuple(whole["losses"]),
            best=fast_plan["best"] if fast else whole["best"],
            variants=tuple((variant["name"], tuple(variant["set"])) for variant in variants),
            base=tuple(plan["set"]),
            overrides=tuple(fast_plan["set"]) if fast else (),
        )

    def warmup_run(self, seed: int) -> PlannedRun:
        """The warm-up that all deferred runs share."""
        return PlannedRun("warm-up", "deferred", seed, self.warmup)

    def deferred_runs(self, seed: int, work: Path) -> list[PlannedRun]:
        """A run for every loss after the common warm-up. work: folder of the checkpoints."""
        start_from = work / self.warmup_run(seed).folder
        return [
            PlannedRun(loss, "deferred", seed, (_loss(loss), *self.after), start_from)
            for loss in self.deferred
        ]

    def whole_runs(self, seed: int, ranked_losses: list[str]) -> list[PlannedRun]:
        """Runs from the start. ranked_losses: losses of the deferred runs, the best first."""
        others = [loss for loss in ranked_losses if loss not in self.whole]
        return [
            PlannedRun(loss, "whole", seed, (_loss(loss),))
            for loss in [*self.whole, *others[: self.best]]
        ]

    def variant_runs(self, seed: int) -> list[PlannedRun]:
        """The variants, for the first seed only."""
        variants = self.variants if seed == self.seeds[0] else ()
        return [PlannedRun(name, "variant", seed, overrides) for name, overrides in variants]


def _loss(name: str) -> str:
    return f"tasks.{TASK}.loss.name={name}"
