"""Scores of spans are calibrated on the spans that are found in held-out texts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from exporter.decision.spans import SpanFit, choose_span_decision
from exporter.kinds.base import LabelledOutputs
from exporter.kinds.token import TokenExporterKind
from schemas.arrays import Float32Array, Int64Array
from schemas.decision.spans import SpanDecisionConfig
from schemas.text.tokens import TokenizedText
from schemas.text.words import Words

WORDS = 6
TAGS = 3


def text_of_words() -> TokenizedText:
    """Six words of one character, and a blank behind each."""
    starts = np.arange(0, 2 * WORDS, 2, dtype=np.int32)
    words = Words(starts, starts + 1, "a " * WORDS)
    return TokenizedText(np.arange(WORDS, dtype=np.int32), truncated=False, words=words)


def rows(outputs: list[Float32Array], targets: list[Int64Array]) -> LabelledOutputs:
    """Held-out texts with these outputs and gold spans."""
    return LabelledOutputs(("name",), [text_of_words() for _ in outputs], outputs, targets)


def one_span_each(count: int, *, seed: int = 0) -> LabelledOutputs:
    """Texts with a span at word 2 that is found with some logit, and is right less often.

    The share of right spans is the sigmoid of half the logit.
    """
    rng = np.random.default_rng(seed)
    logits = rng.uniform(0.5, 6.0, count)
    is_right = rng.random(count) < 1 / (1 + np.exp(-logits / 2))
    outputs, targets = [], []
    for logit, right in zip(logits, is_right, strict=True):
        output = np.full((WORDS, TAGS), -30.0, np.float32)
        output[:, 0] = 0.0
        output[2, 1] = logit
        outputs.append(output)
        targets.append(np.array([(4, 5, 0)] if right else [], np.int64).reshape(-1, 3))
    return rows(outputs, targets)


def choose(held_out: LabelledOutputs, config: SpanDecisionConfig) -> SpanFit:
    """Fit a decision to held-out texts."""
    return choose_span_decision(held_out.texts, held_out.outputs, held_out.targets, config)


def test_calibrated_scores_are_shares_of_right_spans() -> None:
    """Platt scaling finds the slope, and the error falls."""
    fit = choose(one_span_each(800), SpanDecisionConfig())

    assert fit.decision.calibration.scale[0] == pytest.approx(0.5, abs=0.1)
    assert fit.evidence.spans == 800
    assert fit.evidence.ece_after < 0.5 * fit.evidence.ece_before


def test_spans_below_the_least_score_are_left_out() -> None:
    """Precision rises, recall falls, and gold stays."""
    held_out = one_span_each(400)
    every, sure = (
        choose(held_out, SpanDecisionConfig(least_score=least)).validation for least in (0.0, 0.85)
    )

    assert sure.spans == every.spans
    assert sure.precision > every.precision
    assert sure.recall < every.recall == 1.0


def test_a_model_that_finds_nothing_can_be_exported(tmp_path: Path) -> None:
    """Nothing is calibrated, and the picture is empty."""
    outputs = [np.tile(np.array([5.0, 0.0, 0.0], np.float32), (WORDS, 1))] * 3
    held_out = rows(outputs, [np.array([(0, 1, 0)], np.int64)] * 3)
    kind = TokenExporterKind()
    fitted = kind.fit(held_out, SpanDecisionConfig())
    kind.figure(tmp_path / "figure.png", "names", fitted, held_out)

    assert fitted.validation.headline() == {"micro_f1": 0.0, "macro_f1": 0.0}
    assert (tmp_path / "figure.png").exists()
