"""A fuzzing case, and the command lines that cases have in common."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from random import Random

from tests.robustness.fuzz.cases.process import ProcessConditions
from tests.robustness.fuzz.inputs import FuzzInputs

ANY_EXIT_CODE = frozenset(range(6))
GOLD_COLUMNS = {
    "narrative": "narratives",
    "entity_framing": "roles",
    "outlet": "domain",
    "topic": "narratives",
    "names": "names",
}
TASKS = (*GOLD_COLUMNS, "vectors")


@dataclass(frozen=True)
class Case:
    """One command line over changed inputs.

    arguments: of `batch-classify`. description: what was changed. exit_codes: the allowed ones.
    process: conditions of a separate process; None runs the command in the worker. corpus_folder:
    folder whose files must all be scored, or reported as left out.
    """

    arguments: tuple[str, ...]
    output: Path
    description: str
    exit_codes: frozenset[int] = ANY_EXIT_CODE
    process: ProcessConditions | None = None
    corpus_folder: Path | None = None


def scoring_case(
    inputs: FuzzInputs,
    folder: Path,
    corpus: Path | str,
    description: str,
    *options: str | Path,
    exit_codes: frozenset[int] = ANY_EXIT_CODE,
) -> Case:
    """A run over a corpus with the output folder `scored` in the folder of the case."""
    output = folder / "scored"
    arguments = (*inputs.arguments(corpus), "--output", str(output), *map(str, options))
    return Case(arguments, output, description, exit_codes)


def random_options(rng: Random) -> list[str]:
    """A task, and options that run other parts of the code."""
    task = rng.choice(TASKS)
    options = ["--task", task]
    if task in GOLD_COLUMNS and rng.random() < 0.3:
        options += ["--gold-column", GOLD_COLUMNS[task]]
    if rng.random() < 0.03:
        options += ["--gold-column", rng.choice(("domain", "labels", "roles", "start"))]
    if rng.random() < 0.5:
        options += ["--ignore-unknown-gold"]
    for option, values in {
        "--domain-column": ("published_at", "article_id", "text", "start", "labels"),
        "--id-column": ("domain", "text", "reason"),
        "--title-column": ("domain", "entity"),
        "--text-column": ("title", "entity"),
        "--max-quarantined": ("0", "1"),
        "--log-format": ("json",),
        "--shard": ("1/2", "2/2"),
    }.items():
        if rng.random() < 0.08:
            options += [option, rng.choice(values)]
    for flag in ("--keep-text", "--dry-run", *(["--neighbours"] if task == "topic" else [])):
        if rng.random() < 0.1:
            options += [flag]
    return options
