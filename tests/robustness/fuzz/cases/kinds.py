"""The kinds of fuzzing cases; seed and number determine what a case changes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random

import pyarrow as pa

from tests.robustness.fuzz.cases.bundle import (
    bundle_bytes,
    bundle_changed,
    bundle_graph,
    bundle_json,
    bundle_metadata,
)
from tests.robustness.fuzz.cases.case import Case
from tests.robustness.fuzz.cases.corpus import (
    corpus_bytes,
    corpus_schema,
    corpus_tree,
    corpus_values,
)
from tests.robustness.fuzz.cases.output import (
    damaged_cache,
    merged_shards,
    process_conditions,
    resumed_run,
)
from tests.robustness.fuzz.inputs import FuzzInputs

KINDS: dict[str, Callable[[FuzzInputs, Path, Random], Case]] = {
    "corpus bytes": corpus_bytes,
    "corpus schema": corpus_schema,
    "corpus values": corpus_values,
    "bundle changed": bundle_changed,
    "bundle bytes": bundle_bytes,
    "bundle graph": bundle_graph,
    "bundle metadata": bundle_metadata,
    "bundle json": bundle_json,
    "resumed": resumed_run,
    "merged": merged_shards,
    "cached": damaged_cache,
    "corpus tree": corpus_tree,
    "process": process_conditions,
}

SCHEDULE = (
    *("corpus bytes", "corpus schema", "corpus values", "resumed", "bundle metadata"),
    *("corpus bytes", "corpus schema", "corpus values", "bundle bytes", "bundle changed"),
    *("corpus bytes", "corpus schema", "corpus values", "resumed", "bundle json"),
    *("bundle graph", "bundle metadata", "merged", "resumed", "cached"),
    *("corpus tree", "corpus tree", "process"),
)
"""Kinds of consecutive case numbers, repeated."""


class UnwritableInputError(Exception):
    """Arrow itself cannot write the input of a case."""


def kind_of(number: int) -> str:
    """The kind of a case, by its number."""
    return SCHEDULE[number % len(SCHEDULE)]


def make_case(inputs: FuzzInputs, seed: int, number: int, folder: Path) -> Case:
    """Make case `number` in an empty folder. Raises UnwritableInputError."""
    try:
        return KINDS[kind_of(number)](inputs, folder, Random(f"{seed}/{number}"))
    except (pa.ArrowException, NotImplementedError, UnicodeEncodeError) as error:
        raise UnwritableInputError(str(error)) from error
