"""Fitting the scores of spans to held-out texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from exporter.decision.calibration import cross_fitted, fit_calibration
from exporter.decision.reliability import calibration_error
from schemas.arrays import BoolArray, Float32Array, Int64Array
from schemas.decision.decide import Calibration, calibrate
from schemas.decision.spans import (
    SpanDecision,
    SpanDecisionConfig,
    SpanEvidence,
    SpanHits,
    SpanScores,
    number_of_labels,
    places_of,
    tag_spans,
)
from schemas.text.tokens import TokenizedText


@dataclass(frozen=True)
class SpanFit:
    """A fitted decision with what it was fitted to.

    before, after: (spans, 1) probabilities of the spans that were found, the latter by fits without
    them. correct: (spans, 1) bool.
    """

    decision: SpanDecision
    evidence: SpanEvidence
    validation: SpanScores
    cross_validated: SpanScores
    before: Float32Array
    after: Float32Array
    correct: BoolArray


def choose_span_decision(
    texts: Sequence[TokenizedText],
    outputs: Sequence[Float32Array],
    targets: Sequence[Int64Array],
    config: SpanDecisionConfig,
) -> SpanFit:
    """Find the spans of held-out texts, and calibrate their scores.

    outputs: logits of each text, (tokens, tags). targets: gold spans of each, (spans, 3).
    """
    labels = number_of_labels(outputs[0].shape[1])
    found = [_spans(text, output, config) for text, output in zip(texts, outputs, strict=True)]
    logits = np.concatenate([logits for _, logits in found]).reshape(-1, 1)
    correct = np.concatenate(
        [_correct(spans, gold) for (spans, _), gold in zip(found, targets, strict=True)]
    ).reshape(-1, 1)
    calibration, after = Calibration.none(1), calibrate(logits, Calibration.none(1))
    before = after
    if len(logits) > 1:
        calibration = fit_calibration(logits, correct, config.calibration)
        after = cross_fitted(logits, correct, config.calibration)
    edges = np.cumsum([0, *(len(spans) for spans, _ in found)]).tolist()

    def scores(probabilities: Float32Array) -> SpanScores:
        kept = [
            spans[probabilities[first:last, 0] >= config.least_score]
            for (spans, _), first, last in zip(found, edges, edges[1:], strict=False)
        ]
        return SpanHits.count(targets, kept, labels).scores()

    positives = np.zeros(labels, np.int64)
    for gold in targets:
        np.add.at(positives, gold[:, 2], 1)
    quality_before, quality_after = (calibration_error(one, correct) for one in (before, after))
    return SpanFit(
        decision=SpanDecision(
            decoding=config.decoding, calibration=calibration, least_score=config.least_score
        ),
        evidence=SpanEvidence(
            calibration=config.calibration,
            positives=tuple(positives.tolist()),
            spans=len(logits),
            ece_before=quality_before.ece[0],
            ece_after=quality_after.ece[0],
            brier_after=quality_after.brier[0],
        ),
        validation=scores(calibrate(logits, calibration)),
        cross_validated=scores(after),
        before=before,
        after=after,
        correct=correct,
    )


def _spans(
    text: TokenizedText, output: Float32Array, config: SpanDecisionConfig
) -> tuple[Int64Array, Float32Array]:
    """(spans, 3) of start, end and label, and (spans,) logits of a text."""
    words = text.words
    assert words is not None
    tagged = tag_spans(output[words.tokens], config.decoding)
    logits = np.array([span.logit for span in tagged], np.float32)
    return places_of(words, (span[:3] for span in tagged)), logits


def _correct(spans: Int64Array, gold: Int64Array) -> BoolArray:
    wanted = set(map(tuple, gold.tolist()))
    return np.array([tuple(span) in wanted for span in spans.tolist()], np.bool_)
