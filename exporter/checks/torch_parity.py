"""The gate: an exported file must say what the torch model says, on real texts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch

from batch.scoring.packing import PackedBatch, Shape, fill
from batch.scoring.runner import GraphRunner
from batch.scoring.session import TaskSession
from exporter.checks.torch_outputs import RunTorch
from schemas.arrays import Float32Array, Int32Array
from schemas.bundle.facts import Verification
from schemas.errors import ExportError
from schemas.text.tokens import TokenizedText

MAX_DIFFERING_DECISIONS = 1e-3
"""Largest share of (row, label) decisions that may differ."""
MAX_TEXTS = 32
"""Texts compared: the shortest, the longest, and evenly between."""
MAX_TEXTS_OF_REDUCED = 128
"""The same for a reduced precision, some of whose decisions may differ: of few, one is too many."""


Decide = Callable[[Sequence[Float32Array], Sequence[TokenizedText]], Any]
"""From the outputs of texts to their answers (`schemas.kinds.base.Decided`)."""


def verify(
    session: TaskSession,
    run_torch: RunTorch,
    runner: GraphRunner,
    texts: Sequence[TokenizedText],
    decide: Decide,
    *,
    tolerance: float | None = None,
    max_differing: float = MAX_DIFFERING_DECISIONS,
    max_texts: int = MAX_TEXTS,
) -> Verification:
    """Compare outputs and decisions over many lengths and batch shapes.

    Of a text in windows each is compared, and decided, by itself.
    session: of one task. tolerance: of an output, None for that of its kind. max_differing: share
    of the decisions. max_texts: compared at most.
    Raises ExportError, with the worst difference and its shape, if a bound is passed.
    """
    if tolerance is None:
        (output,) = session.outputs.values()
        tolerance = output.tolerance
    compared = spread([piece for text in texts for piece in text.pieces], max_texts)
    comparison = _Comparison(session, run_torch, decide, tolerance, compared)
    for packed in _batches(runner, [text.ids for text in compared]):
        comparison.add(packed)
    comparison.check(max_differing)
    return Verification(
        texts=len(compared),
        shapes=len(comparison.shapes),
        logit_tolerance=tolerance,
        max_logit_difference=comparison.worst,
        max_differing_decisions=max_differing,
        differing_decisions=comparison.differing_share,
    )


class _Comparison:
    """Differences between a session and torch so far.

    worst: largest difference of an output. shapes: of the batches.
    """

    def __init__(
        self,
        session: TaskSession,
        run_torch: RunTorch,
        decide: Decide,
        tolerance: float,
        texts: Sequence[TokenizedText],
    ) -> None:
        self._session, self._run_torch, self._decide = session, run_torch, decide
        self._tolerance = tolerance
        self._text_of = {text.ids.tobytes(): text for text in texts}
        (self._output,) = session.outputs.values()
        self.worst, self._worst_shape = 0.0, (0, 0)
        self.shapes: set[tuple[int, ...]] = set()
        self._differing = self._decisions = 0

    def add(self, packed: PackedBatch) -> None:
        """Compare the real rows of a batch."""
        inputs = (packed.input_ids, packed.attention_mask)
        (of_onnx,) = self._session.run(*inputs)
        with torch.inference_mode():
            of_torch = self._run_torch(*map(torch.from_numpy, inputs)).numpy()
        lengths = packed.attention_mask.sum(axis=1)[: len(packed.rows)].tolist()
        ours, theirs = (self._of_rows(array, lengths) for array in (of_onnx, of_torch))
        shape = packed.input_ids.shape
        self.shapes.add(shape)
        difference = max(map(_difference, ours, theirs))
        if difference > self.worst:
            self.worst, self._worst_shape = difference, shape
        if self.worst > self._tolerance:
            return  # the decisions no longer matter
        texts = [
            self._text_of[ids[:length].astype(np.int32).tobytes()]
            for ids, length in zip(packed.input_ids, lengths, strict=False)  # dummy rows
        ]
        changed = self._decide(ours, texts).changed(self._decide(theirs, texts))
        self._differing += int(changed.sum())
        self._decisions += changed.size

    @property
    def differing_share(self) -> float:
        """Share of the decisions that differ."""
        return self._differing / max(self._decisions, 1)

    def check(self, max_differing: float) -> None:
        """Raise ExportError if a bound is passed."""
        name = self._session.graph.name
        if self.worst > self._tolerance:
            raise ExportError(
                f"{name}: an output differs from torch by {self.worst:.2e} in a batch of shape "
                f"{self._worst_shape}, tolerance {self._tolerance:.0e}; it is not published",
                hint="this architecture may need a newer optimum; please report it with the model "
                "type",
            )
        if self.differing_share > max_differing:
            raise ExportError(
                f"{name}: {self.differing_share:.2%} of the decisions differ from torch, "
                f"{max_differing:.2%} are allowed; it is not published"
            )

    def _of_rows(self, array: Float32Array, lengths: Sequence[int]) -> list[Float32Array]:
        """Output of each real row, without that of its padding."""
        return [
            array[row, :length] if self._output.per_token else array[row]
            for row, length in enumerate(lengths)
        ]


def _difference(ours: Float32Array, theirs: Float32Array) -> float:
    """Largest difference; infinite where either side is not a number."""
    if not (np.isfinite(ours).all() and np.isfinite(theirs).all()):
        return float("inf")
    return float(np.abs(ours - theirs).max())


def spread(texts: Sequence[TokenizedText], most: int = MAX_TEXTS) -> list[TokenizedText]:
    """At most so many texts, evenly over the lengths."""
    by_length = sorted(texts, key=lambda text: len(text.ids))
    places = np.linspace(0, len(by_length) - 1, min(most, len(by_length)))
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
