"""The gate: an exported file must say what the torch model says, on real texts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch

from batch.scoring.packing import PackedBatch, Shape, fill
from batch.scoring.runner import GraphRunner
from batch.scoring.session import TaskSession
from schemas.arrays import Float32Array, Int32Array
from schemas.bundle.facts import Verification
from schemas.errors import ExportError
from schemas.text.tokens import TokenizedText
from trainer.model.multitask import TaskPath

LOGIT_TOLERANCE = 1e-4
"""Largest difference of a logit between ONNX and torch, both fp32."""
MAX_DIFFERING_DECISIONS = 1e-3
"""Largest share of (row, label) decisions that may differ."""
MAX_TEXTS = 256
"""Texts compared: the shortest, the longest, and evenly between."""


Decide = Callable[[Sequence[Float32Array], Sequence[TokenizedText]], Any]
"""From the outputs of texts to their answers (`schemas.kinds.base.Decided`)."""


def verify(
    session: TaskSession,
    path_model: TaskPath,
    runner: GraphRunner,
    texts: Sequence[TokenizedText],
    decide: Decide,
    *,
    tolerance: float = LOGIT_TOLERANCE,
    max_differing: float = MAX_DIFFERING_DECISIONS,
) -> Verification:
    """Compare outputs and decisions over many lengths and batch shapes.

    session: of one task. tolerance: of an output. max_differing: share of the decisions.
    Raises ExportError, with the worst difference and its shape, if a bound is passed.
    """
    texts = _spread(texts)
    (output,) = session.outputs.values()
    worst, worst_shape, shapes = 0.0, (0, 0), set()
    differing = decisions = 0
    for packed in _batches(runner, [text.ids for text in texts]):
        (of_onnx,) = session.run(packed.input_ids, packed.attention_mask)
        with torch.inference_mode():
            of_torch = path_model(
                torch.from_numpy(packed.input_ids), torch.from_numpy(packed.attention_mask)
            ).numpy()
        lengths = packed.attention_mask.sum(axis=1)[: len(packed.rows)].tolist()
        ours, theirs = (
            [
                array[row, :length] if output.per_token else array[row]
                for row, length in enumerate(lengths)
            ]
            for array in (of_onnx, of_torch)
        )
        shapes.add(packed.input_ids.shape)
        difference = max(_difference(*pair) for pair in zip(ours, theirs, strict=True))
        if difference > worst:
            worst, worst_shape = difference, packed.input_ids.shape
        if worst > tolerance:
            continue  # the decisions no longer matter
        of_batch = [
            TokenizedText(packed.input_ids[row, :length].astype(np.int32), truncated=False)
            for row, length in enumerate(lengths)
        ]
        changed = decide(ours, of_batch).changed(decide(theirs, of_batch))
        differing += int(changed.sum())
        decisions += changed.size
    if worst > tolerance:
        raise ExportError(
            f"{session.graph.name}: an output differs from torch by {worst:.2e} in a batch of "
            f"shape {worst_shape}, tolerance {tolerance:.0e}; it is not published",
            hint="this architecture may need a newer optimum; please report it with the model type",
        )
    share = differing / decisions
    if share > max_differing:
        raise ExportError(
            f"{session.graph.name}: {share:.2%} of the decisions differ from torch, "
            f"{max_differing:.2%} are allowed; it is not published"
        )
    return Verification(
        texts=len(texts),
        shapes=len(shapes),
        logit_tolerance=tolerance,
        max_logit_difference=worst,
        max_differing_decisions=max_differing,
        differing_decisions=share,
    )


def _difference(ours: Float32Array, theirs: Float32Array) -> float:
    """Largest difference; infinite where either side is not a number."""
    if not (np.isfinite(ours).all() and np.isfinite(theirs).all()):
        return float("inf")
    return float(np.abs(ours - theirs).max())


def _spread(texts: Sequence[TokenizedText]) -> list[TokenizedText]:
    """At most MAX_TEXTS texts, evenly over the lengths."""
    by_length = sorted(texts, key=lambda text: len(text.ids))
    places = np.linspace(0, len(by_length) - 1, min(MAX_TEXTS, len(by_length)))
    return [by_length[int(place)] for place in places]


def _batches(runner: GraphRunner, ids: list[Int32Array]) -> Iterator[PackedBatch]:
    """The canonical batches, then shapes that production never uses: one row, mixed lengths."""
    yield from runner.shapes.pack(ids, pad_id=runner.pad_id)
    for text in (ids[0], ids[-1]):
        yield _ragged([text], runner.pad_id)
    rng = np.random.default_rng(0)
    for rows in (2, 3, 7):
        yield _ragged([ids[at] for at in rng.integers(len(ids), size=rows)], runner.pad_id)


def _ragged(ids: list[Int32Array], pad_id: int) -> PackedBatch:
    shape = Shape(rows=len(ids), seq=max(map(len, ids)))
    return fill(ids, range(len(ids)), shape, pad_id)
