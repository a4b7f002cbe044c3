"""Invalid values of options and environment variables are usage errors, never ignored."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from batch.cli import main as batch_main
from batch.exits import check_quarantine
from batch.output.record import Counts
from batch.pipeline.progress import make_progress
from exporter.cli import main as exporter_main
from schemas.durations import MAX_DURATION_S, parse_duration

Command = Callable[..., Result]

REQUIRE = "NARRASCAN_REQUIRE_SIGNATURE"


@pytest.fixture
def corpus(write: Callable[..., Path]) -> Path:
    """Two short texts."""
    return write({"text": ["Aid is wasted by officials.", "Talks now."]})


@pytest.mark.parametrize("value", ["", " ", "\t\n"])
def test_an_empty_signature_variable_is_a_usage_error(
    bundle: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    """`run`, `doctor` and `verify` name the variable, and do not skip the verification."""
    monkeypatch.setenv(REQUIRE, value)
    run = [str(corpus), "--task", "narrative", "--bundle", str(bundle)]
    results = [
        CliRunner().invoke(batch_main, [*run, "--output", str(tmp_path / "scored")]),
        CliRunner().invoke(batch_main, [*run, "--dry-run"]),
        CliRunner().invoke(batch_main, ["doctor", "--bundle", str(bundle)]),
        CliRunner().invoke(exporter_main, ["verify", str(bundle)]),
    ]

    assert [result.exit_code for result in results] == [2] * 4
    for result in results:
        assert f"the environment variable {REQUIRE} is set but empty" in result.output
    assert not (tmp_path / "scored").exists()


def test_verify_requires_the_signature_of_the_environment(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Like the commands of `batch-classify`."""
    assert CliRunner().invoke(exporter_main, ["keygen", str(tmp_path / "key")]).exit_code == 0
    monkeypatch.setenv(REQUIRE, str(tmp_path / "key.pub"))
    result = CliRunner().invoke(exporter_main, ["verify", str(bundle)])

    assert result.exit_code == 1
    assert "is not signed" in result.output


@pytest.mark.parametrize("command", ["run", "doctor"])
def test_an_empty_bundle_variable_is_a_usage_error(
    corpus: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """The default bundle is not used instead."""
    monkeypatch.setenv("NARRASCAN_BUNDLE", "")
    words = [str(corpus), "--task", "narrative"] if command == "run" else ["doctor"]
    result = CliRunner().invoke(batch_main, words)

    assert result.exit_code == 2
    assert "the environment variable NARRASCAN_BUNDLE is set but empty" in result.output


def test_an_option_overrides_its_variable(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An invalid variable has no effect then."""
    monkeypatch.setenv("NARRASCAN_BUNDLE", "")

    assert CliRunner().invoke(batch_main, ["doctor", "--bundle", str(bundle)]).exit_code == 0


@pytest.mark.parametrize("option", ["bundle", "output", "cache", "require_signature"])
@pytest.mark.parametrize("value", ["", " "])
def test_a_blank_path_is_a_usage_error(
    batch_classify: Command, corpus: Path, option: str, value: str
) -> None:
    """It does not mean the working folder."""
    result = batch_classify(corpus, **{option: value})

    assert result.exit_code == 2
    assert "is empty" in result.output or "an empty name is not a path" in result.output


NO_NUMBERS = ["nan", "NaN", "-nan", "inf", "-inf", "infinity", "1e400"]


@pytest.mark.parametrize("value", NO_NUMBERS)
@pytest.mark.parametrize(
    "option",
    [
        "max_quarantined",
        "deadline",
        "cache_size",
        "gpu_memory_limit",
        "threads",
        "chunk_rows",
        "max_tokens_per_batch",
        "shard",
    ],
)
def test_nan_and_infinity_are_usage_errors(
    batch_classify: Command, corpus: Path, tmp_path: Path, option: str, value: str
) -> None:
    """For every numeric option: comparisons with NaN would disable a limit."""
    result = batch_classify(corpus, output=tmp_path / "scored", **{option: value})

    assert result.exit_code == 2, result.output
    assert "Invalid value" in result.output
    assert not (tmp_path / "scored").exists()


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("threads", "1000000000"),
        ("threads", "-1"),
        ("chunk_rows", "1000000000000"),
        ("chunk_rows", "0"),
        ("max_tokens_per_batch", "1000000000000"),
        ("max_tokens_per_batch", "0"),
        ("cache_size", "0"),
        ("cache_size", "2000PB"),
        ("cache_size", "9" * 400 + "GB"),
        ("gpu_memory_limit", "0"),
        ("deadline", "100000d"),
        ("deadline", "9" * 400),
        ("max_quarantined", "1.01"),
        ("max_quarantined", "-0.1"),
        ("threads", "9" * 5000),
    ],
)
def test_a_number_beyond_any_machine_is_a_usage_error(
    batch_classify: Command, corpus: Path, tmp_path: Path, option: str, value: str
) -> None:
    """Before anything is allocated."""
    result = batch_classify(corpus, output=tmp_path / "scored", **{option: value})

    assert result.exit_code == 2, result.output
    assert "Invalid value" in result.output
    assert "Traceback" not in result.output


@pytest.mark.parametrize("text", [*NO_NUMBERS, "", "-1s", "1e3", "9" * 400, "1001d"])
def test_a_duration_is_a_finite_number(text: str) -> None:
    """Timers have a limited range."""
    with pytest.raises(ValueError, match=r"is not a duration|is more than 1000 days"):
        parse_duration(text)
    assert parse_duration("1000d") == MAX_DURATION_S


def test_a_share_of_nan_allows_nothing(tmp_path: Path) -> None:
    """The record of a shard may contain it."""
    counts = Counts(rows=10, ok=9, windowed=0, truncated=0, empty=0, quarantined=1)

    with pytest.raises(SystemExit) as caught:
        check_quarantine(counts, float("nan"), tmp_path, make_progress("text"))
    assert caught.value.code == 3
