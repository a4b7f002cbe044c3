"""Finding thresholds on held-out rows: one for the task, one a label where there is evidence."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from schemas.decision import FloatArray
from schemas.tasks import BoolArray

Float64Array = npt.NDArray[np.float64]

SHRINKAGE_ROWS = 8.0
"""Positive held-out rows at which a label's own threshold and the task's weigh the same."""


def best_threshold(probabilities: FloatArray, gold: BoolArray) -> float:
    """Threshold with the highest F1 over all given (row, label) pairs.

    probabilities, gold: any equal shape; they are flattened, so that a matrix gives the micro-F1
    threshold and a column that label's own. The threshold lies midway between the lowest accepted
    and the highest refused probability, or at the former where no float32 lies between. Without any
    positive, returns 1.0 or the float32 just above the highest probability, whichever is lower.
    """
    scores = np.asarray(probabilities, dtype=np.float64).ravel()
    truth = np.asarray(gold, dtype=np.bool_).ravel()
    if not truth.any():
        above = np.nextafter(np.float32(scores.max(initial=0.0)), np.float32(2.0))
        return min(1.0, float(above))
    order = np.argsort(-scores, kind="stable")
    ranked, hits = scores[order], np.cumsum(truth[order])
    f1 = 2 * hits / (np.arange(1, len(ranked) + 1) + truth.sum())
    last_of_tie = np.append(ranked[1:] != ranked[:-1], True)
    cut = int(np.argmax(np.where(last_of_tie, f1, -1.0)))
    below = ranked[cut + 1] if cut + 1 < len(ranked) else 0.0
    midway = np.float32((ranked[cut] + below) / 2)
    return float(midway if midway > below else ranked[cut])


def label_thresholds(
    probabilities: FloatArray, gold: BoolArray, *, shrinkage_rows: float = SHRINKAGE_ROWS
) -> FloatArray:
    """One threshold a label, drawn toward the task's for labels with few positive rows.

    With n positive rows a label's threshold is, on the logit scale, the mean of its own best and
    the task's best with weights n and `shrinkage_rows`: a label with three positive rows cannot
    overfit, one with three hundred is free.

    probabilities, gold: (rows, labels). Returns (labels,) float32 in (0, 1].
    """
    shared = _logit(np.float64(best_threshold(probabilities, gold)))
    positives = gold.sum(axis=0)
    own = np.array(
        [
            _logit(np.float64(best_threshold(probabilities[:, label], gold[:, label])))
            if positives[label]
            else shared
            for label in range(gold.shape[1])
        ]
    )
    weight = positives / (positives + shrinkage_rows)
    mixed = weight * own + (1 - weight) * shared
    return np.asarray(1 / (1 + np.exp(-mixed)), dtype=np.float32)


def _logit(probability: np.float64) -> np.float64:
    clipped = np.clip(probability, 1e-6, 1 - 1e-6)
    return np.float64(np.log(clipped / (1 - clipped)))
