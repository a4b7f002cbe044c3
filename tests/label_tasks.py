"""Typed access to what a task that decides labels leaves behind a kind-neutral interface."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from batch.engines.graph_file import GraphFile
from batch.machine.device import Device
from batch.scoring.runner import GraphRunner
from batch.scoring.scorer import Scored
from batch.scoring.session import OpenGraph, TaskSession, task_output
from schemas.arrays import Float32Array
from schemas.bundle.metadata import ArtefactMetadata, VariantFacts
from schemas.bundle.variants import EngineName, Precision
from schemas.decision.settings import DecisionEvidence
from schemas.kinds import DEFAULT_KIND
from schemas.kinds.label_sets import LabelSets
from schemas.kinds.multilabel import MultilabelDecision, MultilabelOptions
from schemas.tasks.sections import TaskOptions
from schemas.text.tokens import TokenizedText

KIND = DEFAULT_KIND
"""Kind of the tasks of the samples."""


def options_of(task: TaskOptions) -> MultilabelOptions:
    """Options of a task, of its config or of a checkpoint."""
    assert isinstance(task, MultilabelOptions)
    return task


def decision_of(facts: ArtefactMetadata | VariantFacts) -> MultilabelDecision:
    """Thresholds and calibration of a file or of a variant."""
    decision = facts.decision if isinstance(facts, VariantFacts) else facts
    assert isinstance(decision, MultilabelDecision)
    return decision


def evidence_of(facts: ArtefactMetadata | VariantFacts) -> DecisionEvidence:
    """How thresholds and calibration were chosen."""
    assert isinstance(facts.evidence, DecisionEvidence)
    return facts.evidence


def label_sets(scored: Scored, task: str | None = None) -> LabelSets:
    """Answers of a task, by default of the first one."""
    decided = scored.tasks[task] if task is not None else next(iter(scored.tasks.values()))
    assert isinstance(decided, LabelSets)
    return decided


def logits_of(runner: GraphRunner, texts: Sequence[TokenizedText]) -> Float32Array:
    """Logits of the first task, (rows, labels) float32."""
    return np.stack(runner.outputs(texts)[0])


def open_file(
    graph: GraphFile,
    device: Device,
    *,
    precision: Precision = "fp32",
    engine: EngineName | None = None,
    threads: int = 0,
) -> TaskSession:
    """A session of every task of a file that has its metadata."""
    opened = OpenGraph.open(graph, device, precision=precision, engine=engine, threads=threads)
    tasks = opened.metadata()
    outputs = {name: task_output(about, tasks=len(tasks)) for name, about in tasks.items()}
    return TaskSession(opened, outputs)
