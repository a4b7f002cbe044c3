"""The gate: an exported file must say what the torch model says, on real texts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from batch.scoring.packing import PackedBatch, Shape, fill
from batch.scoring.scorer import LogitRunner
from batch.scoring.session import TaskSession
from schemas.arrays import Float32Array, Int32Array
from schemas.bundle.metadata import Verification
from schemas.decision.decide import Calibration, calibrate, decide
from schemas.errors import ExportError
from schemas.text.tokens import TokenizedText
from trainer.model.multitask import TaskPath

LOGIT_TOLERANCE = 1e-4
"""Largest difference of a logit between ONNX and torch, both fp32."""
MAX_DIFFERING_DECISIONS = 1e-3
"""Largest share of (row, label) decisions that may differ."""
MAX_TEXTS = 256
"""Texts compared: the shortest, the longest, and evenly between."""


def verify(
    session: TaskSession,
    path_model: TaskPath,
    runner: LogitRunner,
    texts: Sequence[TokenizedText],
    *,
    calibration: Calibration,
    thresholds: Float32Array,
    tolerance: float = LOGIT_TOLERANCE,
    max_differing: float = MAX_DIFFERING_DECISIONS,
) -> Verification:
    """Compare logits and decisions over many lengths and batch shapes.

    tolerance: of a logit. max_differing: share of the decisions.
    Raises ExportError, with the worst difference and its shape, if a bound is passed.
    """
    ids = _spread([text.ids for text in texts])
    worst, worst_shape, shapes = 0.0, (0, 0), set()
    differing = decisions = 0
    for packed in _batches(runner, ids):
        found = session.run(packed.input_ids, packed.attention_mask)
        with torch.inference_mode():
            expected = path_model(
                torch.from_numpy(packed.input_ids), torch.from_numpy(packed.attention_mask)
            ).numpy()
        real = slice(len(packed.rows))
        shapes.add(packed.input_ids.shape)
        difference = _difference(found[real], expected[real])
        if difference > worst:
            worst, worst_shape = difference, packed.input_ids.shape
        if worst > tolerance:
            continue  # the decisions no longer matter
        ours, theirs = (
            decide(calibrate(logits[real], calibration), thresholds) for logits in (found, expected)
        )
        differing += int((ours != theirs).sum())
        decisions += ours.size
    if worst > tolerance:
        raise ExportError(
            f"{session.graph.name}: a logit differs from torch by {worst:.2e} in a batch of shape "
            f"{worst_shape}, tolerance {tolerance:.0e}; it is not published",
            hint="this architecture may need a newer optimum; please report it with the model type",
        )
    share = differing / decisions
    if share > max_differing:
        raise ExportError(
            f"{session.graph.name}: {share:.2%} of the decisions differ from torch, at most "
            f"{max_differing:.2%} may; it is not published"
        )
    return Verification(
        texts=len(ids),
        shapes=len(shapes),
        logit_tolerance=tolerance,
        max_logit_difference=worst,
        max_differing_decisions=max_differing,
        differing_decisions=share,
    )


def _difference(found: Float32Array, expected: Float32Array) -> float:
    """Largest difference; infinite where either side is not a number."""
    if not (np.isfinite(found).all() and np.isfinite(expected).all()):
        return float("inf")
    return float(np.abs(found - expected).max())


def _spread(ids: list[Int32Array]) -> list[Int32Array]:
    """At most MAX_TEXTS texts, evenly over the lengths."""
    by_length = sorted(ids, key=len)
    places = np.linspace(0, len(by_length) - 1, min(MAX_TEXTS, len(by_length)))
    return [by_length[int(place)] for place in places]


def _batches(runner: LogitRunner, ids: list[Int32Array]) -> Iterator[PackedBatch]:
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
