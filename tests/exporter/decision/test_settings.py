"""What `--set TASK.KEY=VALUE` promises."""

import pytest

from exporter.decision.settings import apply_settings
from schemas.decision.settings import DecisionConfig
from schemas.decision.thresholds import ThresholdRule
from schemas.errors import UsageError

DECISIONS = {
    "topics": DecisionConfig(thresholds=ThresholdRule(shrinkage_rows=4)),
    "tone": DecisionConfig(calibration="vector"),
}


def test_without_settings_nothing_changes() -> None:
    """The checkpoint's own decisions hold."""
    assert apply_settings(DECISIONS, []) == DECISIONS


def test_settings_change_what_they_name() -> None:
    """Several settings, the later after the earlier; all else stays."""
    found = apply_settings(
        DECISIONS,
        [
            "topics.calibration=none",
            "topics.calibration=isotonic",
            "topics.thresholds.objective=precision_floor",
            "topics.thresholds.floor=0.8",
        ],
    )

    rule = ThresholdRule(shrinkage_rows=4, objective="precision_floor", floor=0.8)
    assert found["topics"] == DecisionConfig(calibration="isotonic", thresholds=rule)
    assert found["tone"] == DECISIONS["tone"]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("topics.calibration", "expected TASK.KEY=VALUE"),
        ("calibration=none", "expected TASK.KEY=VALUE"),
        ("topics.=none", "expected TASK.KEY=VALUE"),
        (
            "topic.calibration=none",
            "unknown task 'topic'; did you mean 'topics'? There are 'topics', ",
        ),
        ("topics.thresholds=0.5", "unknown key 'thresholds'; "),
        ("topics.threshold.strategy=global", "did you mean 'thresholds.strategy'? There are 'cali"),
        ("topics.calibration=beta", "topics.calibration: Input should be 'auto', 'none', "),
        ("topics.thresholds.floor=high", "topics.thresholds.floor: Input should be a valid number"),
        ("topics.thresholds.strategy=global", "topics.thresholds: shrinkage_rows = 4.0 has no eff"),
    ],
)
def test_wrong_setting_is_reported_with_what_there_is(setting: str, message: str) -> None:
    """The setting or key, what is wrong with it, and what is known."""
    with pytest.raises(UsageError) as caught:
        apply_settings(DECISIONS, [setting])

    assert message in str(caught.value)
    assert "docs/config.md" in str(caught.value)


def test_every_wrong_setting_is_reported_at_once() -> None:
    """Not one at a time."""
    with pytest.raises(UsageError) as caught:
        apply_settings(DECISIONS, ["a.b=1", "tone.c=2", "tone.calibration=d"])

    assert all(part in str(caught.value) for part in ("'a'", "'c'", "tone.calibration"))
