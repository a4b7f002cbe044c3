"""What measuring calibration promises."""

from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
from hypothesis import given
from sklearn.metrics import brier_score_loss

from exporter.decision.reliability import Bins, calibration_error, diagram_path, draw_reliability
from tests.strategies import STEADY, Bools, Floats, scored_rows


def drawn(rows: int = 6000) -> tuple[Floats, Bools]:
    """Probabilities of two labels, and gold that follows the first and not the second."""
    rng = np.random.default_rng(0)
    probabilities = rng.random((rows, 2)).astype(np.float32)
    truth = probabilities * [1.0, 0.5]
    return probabilities, rng.random((rows, 2)) < truth


def test_error_is_the_distance_to_what_was_so() -> None:
    """A label whose probabilities are true has an error near 0; one twice too sure, 1/4."""
    quality = calibration_error(*drawn())

    assert quality.ece[0] < 0.03
    assert quality.ece[1] == pytest.approx(0.25, abs=0.02)


def test_error_of_a_hand_made_case() -> None:
    """Two bins of two rows: |0.25 - 0.5| and |0.75 - 1|, each with half of the rows."""
    probabilities = np.array([[0.2], [0.3], [0.7], [0.8]], np.float32)
    gold = np.array([[0], [1], [1], [1]]) > 0

    assert calibration_error(probabilities, gold, bins=2).ece == pytest.approx((0.25,))


@STEADY
@given(rows=scored_rows())
def test_brier_score_is_that_of_scikit_learn(rows: tuple[Floats, Bools]) -> None:
    """Label by label."""
    probabilities, gold = rows

    expected = [
        brier_score_loss(gold[:, label], probabilities[:, label].astype(float), pos_label=True)
        for label in range(gold.shape[1])
    ]
    assert calibration_error(probabilities, gold).brier == pytest.approx(tuple(expected))


@STEADY
@given(rows=scored_rows())
def test_order_of_rows_does_not_matter(rows: tuple[Floats, Bools]) -> None:
    """Equal probabilities share a bin, whichever row comes first."""
    probabilities, gold = rows

    found = calibration_error(probabilities[::-1], gold[::-1], bins=4).ece

    assert found == pytest.approx(calibration_error(probabilities, gold, bins=4).ece)
    assert all(0 <= error <= 1 for error in found)


def test_bins_hold_equally_many_rows() -> None:
    """So that a rare label, whose probabilities crowd near 0, is not measured in one bin."""
    rng = np.random.default_rng(0)
    probabilities = (rng.random((300, 1)) ** 6).astype(np.float32)
    gold = np.zeros((300, 1), np.bool_)
    gold[probabilities > 0.001] = rng.random((probabilities > 0.001).sum()) < 0.05
    fine, coarse = (calibration_error(probabilities, gold, bins=bins).ece[0] for bins in (15, 1))

    assert fine > coarse


def test_interval_holds_the_share() -> None:
    """Wilson bounds of 0 of 10, 5 of 10 and 10 of 10, as tabulated."""
    bins = Bins(np.full(3, 10.0), np.array([0.1, 0.5, 0.9]), np.array([0.0, 0.5, 1.0]))
    low, high = bins.interval()

    np.testing.assert_allclose(low, [0.0, 0.2366, 0.7225], atol=1e-4)
    np.testing.assert_allclose(high, [0.2775, 0.7634, 1.0], atol=1e-4)


@pytest.mark.parametrize("rows", [1, 6000])
def test_diagram_is_the_same_every_time(tmp_path: Path, rows: int) -> None:
    """A picture of any number of rows, byte for byte the same when drawn again."""
    probabilities, gold = drawn(rows)
    for name in ("first", "second"):
        path = diagram_path(tmp_path, name)
        draw_reliability(path, "topics", {"a": probabilities, "b": probabilities**2}, gold)
    first, second = (diagram_path(tmp_path, name) for name in ("first", "second"))

    assert first.read_bytes() == second.read_bytes()
    assert matplotlib.image.imread(first).std() > 0.01
