"""Windows in a training config: what they are without keys, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from schemas.config.models import TrainingRun
from schemas.kinds.token import TokenKind
from schemas.text.windows import WindowSpec


def run(**task: Any) -> TrainingRun:
    """A config of one task with these keys."""
    data = [{"path": "a.parquet"}]
    return TrainingRun.model_validate(
        {"encoder": {"max_tokens": 128}, "tasks": {"topics": {"data": data, **task}}}
    )


def test_windows_are_as_long_as_the_model_reads_and_share_a_quarter() -> None:
    """Both keys may be given; windows without overlap have a stride of their length."""
    plain = run(windows={}).tasks["topics"].window_spec(128)
    apart = run(windows={"tokens": 64, "stride": 64, "pooling": "max"}).tasks["topics"]

    assert plain == WindowSpec(tokens=128, stride=96, max_windows=16, pooling="mean")
    assert apart.window_spec(128) == WindowSpec(tokens=64, stride=64, max_windows=16, pooling="max")
    assert run().tasks["topics"].window_spec(128) is None


def test_words_are_not_pooled() -> None:
    """Each counts in one window, so that a pooling has no effect and is refused."""
    spec = run(kind=TokenKind.NAME, windows={}).tasks["topics"].window_spec(128)

    assert spec is not None
    assert spec.pooling is None
    with pytest.raises(ValidationError, match=r"windows\.pooling"):
        run(kind=TokenKind.NAME, windows={"pooling": "max"})


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ({"windows": {"tokens": 256}}, "tokens 256 is more than encoder.max_tokens 128"),
        ({"windows": {"tokens": 64, "stride": 65}}, "stride 65 is more than the 64 tokens"),
        ({"windows": {"stride": 129}}, "stride 129 is more than the 128 tokens"),
        ({"windows": {"max_windows": 1}}, "greater than or equal to 2"),
        ({"windows": {}, "truncation": "head_tail"}, "no effect with windows"),
        ({"windows": {}, "entity_markers": True}, "no effect with entity_markers"),
        ({"windows": {"overlap": 3}}, "overlap"),
    ],
    ids=str,
)
def test_windows_that_cannot_be_are_refused(task: dict[str, object], message: str) -> None:
    """Before any data is read, with the key."""
    with pytest.raises(ValidationError, match=message):
        run(**task)
