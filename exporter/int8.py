"""The 8-bit graph of a group of tasks, with as many products left in bf16 as its gate takes."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from batch.device import choose_device
from batch.session import TaskSession
from exporter.graph import GroupGraph
from exporter.quantise import left_in_bf16, quantise, sweep
from exporter.variants import (
    MAX_CHANGED_ARTICLES,
    WANTED_CHANGED_ARTICLES,
    Reference,
    fit_variant,
)
from schemas.decision import FloatArray
from schemas.tokens import IdArray, TokenisedText

log = logging.getLogger(__name__)

SWEPT_TEXTS = 48
"""Held-out texts that the sweep for sensitive products looks at."""


def make_int8(
    graph: GroupGraph, references: Mapping[str, Reference], sample: Sequence[IdArray]
) -> tuple[GroupGraph, tuple[str, ...]]:
    """Quantise the graph of a group. Returns it, and the products that were left in bf16.

    references: what fp32 says of each task's held-out texts. sample: token ids of training texts.
    The order of the sweep is tried in growing steps, until no more than the wanted share of the
    held-out texts has other labels. Raises ExportError if nncf is not installed.
    """
    trial = _Trial(graph.tasks, references)
    with tempfile.TemporaryDirectory() as folder:
        plain, reduced = Path(folder, "fp32.onnx"), Path(folder, "int8.onnx")
        onnx.save(graph.model, plain)
        quantise(plain, reduced, sample)
        model = onnx.load(reduced)
    kept: tuple[str, ...] = ()
    changed = trial.changed_articles(model)
    if changed > WANTED_CHANGED_ARTICLES:
        order = sweep(model, trial.drift)
        for count in _growing(len(order)):
            tried = tuple(order[:count])
            share = trial.changed_articles(left_in_bf16(model, tried))
            log.info("int8: %d products in bf16 change %.2f %%", count, 100 * share)
            if share < changed:
                kept, changed = tried, share
            if changed <= WANTED_CHANGED_ARTICLES:
                break
    if changed > MAX_CHANGED_ARTICLES:
        log.info("int8: still changes %.2f %% of the texts", 100 * changed)
    return GroupGraph(left_in_bf16(model, kept), graph.tasks), kept


@dataclass(frozen=True)
class _Trial:
    """Runs graphs of a group on the held-out texts of its tasks."""

    tasks: tuple[str, ...]
    references: Mapping[str, Reference]

    def changed_articles(self, model: onnx.ModelProto) -> float:
        """Share of the held-out texts whose labels differ, of the task where it is highest."""
        shares = []
        for task, reference in self.references.items():
            logits = self._logits(model, task, reference.texts)
            shares.append(fit_variant(reference, logits).cost.changed_articles)
        return max(shares)

    def drift(self, model: onnx.ModelProto) -> float:
        """Mean distance of logits from those of fp32, on some texts of each task."""
        distances = []
        for task, reference in self.references.items():
            some = np.linspace(0, len(reference.texts) - 1, SWEPT_TEXTS).astype(int)
            texts = [reference.texts[place] for place in some]
            logits = self._logits(model, task, texts)
            distances.append(float(np.abs(logits - reference.logits[some]).mean()))
        return max(distances)

    def _logits(self, model: onnx.ModelProto, task: str, texts: list[TokenisedText]) -> FloatArray:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "tried.onnx")
            onnx.save(GroupGraph(model, self.tasks).cut(task), path)
            session = TaskSession(path, choose_device("cpu"), precision="int8")
            return self.references[task].runner(session).logits(texts)


def _growing(count: int) -> list[int]:
    """1, 2, 4, 8, ... and at last half of `count`."""
    half = max(1, count // 2)
    steps = [1 << power for power in range(half.bit_length()) if 1 << power < half]
    return [*steps, half]
