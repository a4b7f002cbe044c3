"""Which epoch is kept."""

from __future__ import annotations

import pytest

from trainer.evaluation.history import EpochRecord, EpochScores, History, mean_metric


def history(*metrics: float, rows: int = 100) -> History:
    """Epochs with these metrics on so many held-out rows."""
    scores = [EpochScores(rows=rows, micro_f1=metric, macro_f1=metric) for metric in metrics]
    records = [
        EpochRecord(
            epoch=number,
            loss={"a": 1.0},
            validation_loss={"a": 1.0},
            validation={"a": of_epoch},
            metric=metric,
            metric_error=mean_metric([of_epoch], "mean_f1")[1],
            learning_rate=1e-4,
            seconds=1.0,
            articles_per_s=1.0,
            tokens_per_s=1.0,
        )
        for number, (metric, of_epoch) in enumerate(zip(metrics, scores, strict=True), start=1)
    ]
    return History(metric_name="mean_f1", epochs=records)


@pytest.mark.parametrize(
    ("metrics", "rows", "kept"),
    [
        ((0.2, 0.5, 0.8), 100, 3),
        ((0.2, 0.8, 0.77), 100, 3),  # a standard error is 0.04
        ((0.2, 0.8, 0.75), 100, 2),
        ((0.2, 0.8, 0.77), 1000, 2),  # 0.013
        ((0.2, 0.8, 0.5, 0.65), 8, 2),  # 0.14
        ((0.2, 0.8, 0.5, 0.67), 8, 4),
        ((0.4, 0.4, 0.4), 100, 3),
        ((1.0, 0.99), 10, 1),
        ((0.0, 0.0), 10, 2),
    ],
)
def test_last_epoch_within_a_standard_error_is_kept(
    metrics: tuple[float, ...], rows: int, kept: int
) -> None:
    """A later epoch gives way to an earlier one only where the rows can tell them apart."""
    found = history(*metrics, rows=rows)

    assert found.best is not None
    assert found.best.epoch == kept
    assert found.epochs_since_best() == len(metrics) - kept


def test_metric_is_the_mean_over_tasks_with_its_standard_error() -> None:
    """Of as many rows as the smallest task has, for each of them."""
    small = EpochScores(rows=25, micro_f1=0.5, macro_f1=0.3)
    large = EpochScores(rows=400, micro_f1=0.9, macro_f1=0.7)

    assert mean_metric([small, large], "mean_f1") == pytest.approx((0.6, (0.24 / 50) ** 0.5))
    assert mean_metric([large], "macro_f1") == pytest.approx((0.7, (0.21 / 400) ** 0.5))


def test_kept_epoch_never_moves_back() -> None:
    """Weights of an epoch that was given up are gone: no later epoch brings it back."""
    metrics = (0.5, 0.62, 0.58, 0.3, 0.66, 0.61, 0.64, 0.2, 0.69)
    kept = [history(*metrics[:count]).best for count in range(1, len(metrics) + 1)]
    numbers = [one.epoch for one in kept if one is not None]

    assert len(numbers) == len(metrics)
    assert numbers == sorted(numbers)


def test_there_is_none_before_the_first() -> None:
    """A run that has just begun has kept nothing."""
    assert history().best is None
    assert history().epochs_since_best() == 0
