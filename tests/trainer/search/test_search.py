"""Hyperparameter search."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import optuna
import pytest
from click.testing import CliRunner, Result
from filelock import FileLock
from matplotlib import image
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from schemas.durations import parse_duration
from schemas.errors import LockedError, OutputError, UsageError
from trainer.checkpoint.reader import Checkpoint
from trainer.cli import main
from trainer.search.report import Outcome, SearchResult, TrialRecord, set_options, write_report
from trainer.search.space import Choice, Range, check_space, parse_space
from trainer.search.study import Limits, search

RATES = "train.learning_rate=log:1e-4..1e-2"
LOSSES = "tasks.topics.loss.name=bce,cb"
SPACE = (RATES, LOSSES)


@pytest.fixture
def config(config_file: Path, corpus: Path) -> Path:
    """A config and its data."""
    assert corpus.parent == config_file.parent
    return config_file


def run(config: Path, output: Path, **options: Any) -> SearchResult:
    """Search two keys, by default with three trials."""
    limits = Limits(options.pop("trials", 3), options.pop("budget_s", None))
    return search(config, options.pop("space", SPACE), output, limits=limits, **options)


def command(config: Path, output: Path, *options: str) -> Result:
    """Run `train-classifier search`."""
    words = ["search", str(config), "--output", str(output), *options]
    return CliRunner().invoke(main, words)


def record(folder: str, *, a: str, state: Outcome, metric: float | None) -> TrialRecord:
    """A trial of a minute and a half, with one epoch if it has a metric."""
    epochs = int(metric is not None)
    return TrialRecord(
        folder=folder,
        values={"a": a},
        state=state,
        metric=metric,
        best_epoch=epochs or None,
        epochs=epochs,
        seconds=90.0,
        error="no" if state == "failed" else None,
    )


def untimed(result: SearchResult) -> list[TrialRecord]:
    """The trials without their times."""
    return [trial.model_copy(update={"seconds": 0.0}) for trial in result.trials]


def forget_end(output: Path, index: int) -> None:
    """Truncate the journal to the state before the last trial ended, as after a kill."""
    journal = output / "study.jsonl"
    lines = journal.read_text(encoding="utf-8").splitlines(keepends=True)
    ends = [number for number, line in enumerate(lines) if '"op_code":6' in line]
    journal.write_text("".join(lines[: ends[index]]), encoding="utf-8")


def test_ranges_and_choices_are_parsed() -> None:
    """Two integers make a range of integers; `log:` and commas are supported."""
    space = parse_space(
        ["train.batch_rows=8..64", "a.b = log:1e-5..5e-4", "c=0.5..4.0", "d=bce, db,auto"]
    )

    assert space == (
        Range("train.batch_rows", 8, 64, log=False, is_integer=True),
        Range("a.b", 1e-5, 5e-4, log=True, is_integer=False),
        Range("c", 0.5, 4.0, log=False, is_integer=False),
        Choice("d", ("bce", "db", "auto")),
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train.epochs", "train.epochs: 'train.epochs' is not KEY=VALUES"),
        ("=1..2", "(no key): '=1..2' is not KEY=VALUES"),
        ("train.epochs=3", "train.epochs: '3' is neither a range nor several choices"),
        ("train.epochs=1..", "train.epochs: '1..' is neither"),
        ("train.epochs=5..5", "train.epochs: 5 is not below 5"),
        ("train.dropout=log:0..1", "train.dropout: 0 is not positive"),
        (
            "train.dropout=0..1e400",
            "train.dropout: 0..1e400 has an end that is not a finite number",
        ),
        ("train.dropout=nan..1", "train.dropout: 'nan..1' is neither"),
        ("train.dropout=log:a,b,", "blank or duplicate"),
        ("train.mixing=a,a", "blank or duplicate"),
    ],
)
def test_an_invalid_space_is_reported_with_key_and_grammar(text: str, message: str) -> None:
    """The error has the key, the problem, and the syntax."""
    with pytest.raises(UsageError) as caught:
        parse_space([text])

    assert message in str(caught.value)
    assert "KEY=log:LOW..HIGH" in str(caught.value)


def test_problems_of_a_space_are_reported_all_at_once() -> None:
    """Every wrong option is one line, and so is a key that is given twice."""
    with pytest.raises(UsageError) as caught:
        parse_space(["a=1", "b=2..1", "c=1..2", "c=3..4"])

    lines = str(caught.value).splitlines()
    assert [line.split(":")[0].strip() for line in lines[1:4]] == ["a", "b", "c"]
    assert "given twice" in lines[3]


def test_values_are_written_short_and_within_the_range() -> None:
    """Four digits are sufficient to repeat a trial, and rounding never leaves the range."""
    narrow = Range("a", 0.123449, 0.123451, log=False, is_integer=False)

    assert narrow.write(0.12345) == "0.123451"
    assert Range("a", 0.0, 1.0, log=False, is_integer=False).write(0.1234567) == "0.1235"
    assert Range("a", 1, 9, log=False, is_integer=True).write(7) == "7"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train.learning_rat=1e-5..1e-4", "did you mean 'learning_rate'?"),
        ("train.dropout=0.0..1.5", "train.dropout=1.5: train.dropout"),
        ("train.batch_rows=0..8", "train.batch_rows=0: train.batch_rows"),
        ("train.mixing=round_robin,roundrobin", "train.mixing=roundrobin"),
        ("train=1,2", "train=1"),
        ("train.metric=micro_f1,macro_f1", "train.metric: trials are compared by this metric"),
    ],
)
def test_invalid_values_are_refused_before_any_trial(
    config: Path, tmp_path: Path, text: str, message: str
) -> None:
    """Unknown keys and ends out of range are reported at once, and nothing is written."""
    with pytest.raises(UsageError) as caught:
        run(config, tmp_path / "out", space=(RATES, text))

    assert message in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_valid_space_does_not_change_the_config(config: Path) -> None:
    """The config that is returned has no value of the space."""
    assert check_space(config, ("train.epochs=3",), parse_space(SPACE)).train.epochs == 3


def test_search_trains_every_trial_and_reports(config: Path, tmp_path: Path) -> None:
    """Each trial is a finished checkpoint; table, JSON and plot have its metric."""
    result = run(config, tmp_path / "out")
    out = tmp_path / "out"
    names = [trial.folder for trial in result.trials]

    assert names == ["trial-000", "trial-001", "trial-002"]
    assert all((out / name / "checkpoint.json").exists() for name in names)
    for trial in result.trials:
        history = json.loads((out / trial.folder / "history.json").read_text())
        metrics = [epoch["metric"] for epoch in history["epochs"]]
        assert trial.state == "finished"
        kept = Checkpoint.open(out / trial.folder).info.best_epoch
        assert trial.best_epoch == kept
        assert trial.metric == metrics[kept - 1]
        assert 1e-4 <= float(trial.values["train.learning_rate"]) <= 1e-2
        assert trial.values["tasks.topics.loss.name"] in {"bce", "cb"}
        assert trial.seconds > 0
    assert SearchResult.model_validate_json((out / "search.json").read_text()) == result
    assert result.best is not None
    assert set_options(result.best) in (out / "search.md").read_text()
    assert image.imread(out / "search.png").std() > 0


def test_values_reach_the_training_run(config: Path, tmp_path: Path) -> None:
    """A trial equals the training run with its `--set` options."""
    result = run(config, tmp_path / "out", trials=1)
    options = set_options(result.trials[0]).split()
    again = CliRunner().invoke(main, [str(config), "--output", str(tmp_path / "again"), *options])

    assert again.exit_code == 0, again.output
    weights = [tmp_path / name / "model.safetensors" for name in ("out/trial-000", "again")]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_search_is_deterministic_and_resumes(config: Path, tmp_path: Path) -> None:
    """Sessions of two trials and one trial give the same results as one session of three."""
    whole = run(config, tmp_path / "whole", trials=3)
    run(config, tmp_path / "parts", trials=2)
    parts = run(config, tmp_path / "parts", trials=3)

    assert untimed(parts) == untimed(whole)
    assert len({trial.values["train.learning_rate"] for trial in whole.trials}) == 3


def test_finished_search_is_not_repeated(config: Path, tmp_path: Path) -> None:
    """The same command again trains nothing and reports the same."""
    first = run(config, tmp_path / "out", trials=2)
    stamp = (tmp_path / "out" / "trial-001" / "model.safetensors").stat().st_mtime_ns
    again = run(config, tmp_path / "out", trials=2)

    assert again == first
    assert (tmp_path / "out" / "trial-001" / "model.safetensors").stat().st_mtime_ns == stamp


def test_trial_killed_before_its_end_was_recorded_counts_once(config: Path, tmp_path: Path) -> None:
    """A trial that is still running in the study resumes in its folder, with all its epochs."""
    whole = run(config, tmp_path / "out", trials=2)
    forget_end(tmp_path / "out", -1)
    again = run(config, tmp_path / "out", trials=2)

    assert untimed(again) == untimed(whole)


def test_journal_truncated_by_a_crash_is_repaired(config: Path, tmp_path: Path) -> None:
    """Only the incomplete last line is lost, not the search."""
    whole = run(config, tmp_path / "out", trials=1)
    journal = tmp_path / "out" / "study.jsonl"
    journal.write_bytes(journal.read_bytes() + b'{"op_code":4,"wor')

    assert run(config, tmp_path / "out", trials=1) == whole
    assert len(run(config, tmp_path / "out", trials=2).trials) == 2


def kill_when(seen: Path, words: list[str], said: Path) -> None:
    """Start `train-classifier` in a new process, and kill it when a file exists."""
    code = "import sys; from trainer.cli import main; main(sys.argv[1:])"
    with said.open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", code, *words],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=log,
            stderr=log,
        )
        while not seen.exists() and process.poll() is None:
            time.sleep(0.005)
        process.kill()
        assert process.wait() == -signal.SIGKILL, said.read_text()


def test_killed_search_resumes_to_the_same_result(config: Path, tmp_path: Path) -> None:
    """After SIGKILL in its second trial, a search gives the results of an uninterrupted one."""
    killed = tmp_path / "killed"
    whole = run(config, tmp_path / "whole", trials=2, overrides=("train.epochs=6",))
    options = ["--trials", "2", "--set", "train.epochs=6", "--space", RATES, "--space", LOSSES]
    words = ["search", str(config), "--output", str(killed), *options]
    kill_when(killed / "trial-001" / "history.json", words, tmp_path / "said.txt")
    again = command(config, killed, *options)

    assert again.exit_code == 0, again.output
    found = SearchResult.model_validate_json((killed / "search.json").read_text())
    assert untimed(found) == untimed(whole)


def test_trial_stops_after_an_epoch_when_the_budget_is_used_up(
    config: Path, tmp_path: Path
) -> None:
    """One epoch is trained and its metric counts; with a larger budget the trial resumes."""
    stopped = run(config, tmp_path / "out", trials=2, budget_s=1e-6)
    more = run(config, tmp_path / "out", trials=2, budget_s=600.0)

    assert [(trial.state, trial.epochs) for trial in stopped.trials] == [("stopped", 1)]
    assert stopped.best is not None
    assert [(trial.state, trial.epochs) for trial in more.trials] == [("finished", 2)] * 2
    assert more.trials[0].values == stopped.trials[0].values
    assert more.trials[0].seconds > stopped.trials[0].seconds
    assert untimed(more) == untimed(run(config, tmp_path / "whole", trials=2))


def test_no_trial_begins_that_would_exceed_the_budget(config: Path, tmp_path: Path) -> None:
    """If less time is left than a trial takes on average, the search ends."""
    first = run(config, tmp_path / "out", trials=1)
    budget_s = 1.5 * first.trials[0].seconds
    again = run(config, tmp_path / "out", trials=5, budget_s=budget_s)

    assert again == first


def test_trial_worse_than_the_median_is_pruned(config: Path, tmp_path: Path) -> None:
    """After five trials that learned, one that cannot is pruned and leaves no saved state."""
    space = ("train.learning_rate=1e-9,5e-3",)
    result = run(config, tmp_path / "out", space=space, trials=10, overrides=("train.epochs=3",))
    pruned = [trial for trial in result.trials if trial.state == "pruned"]

    assert pruned
    for trial in pruned:
        assert trial.values == {"train.learning_rate": "1e-9"}
        assert trial.epochs == 2
        assert not (tmp_path / "out" / trial.folder / "state").exists()
    assert result.best is not None
    assert result.best.values == {"train.learning_rate": "5e-3"}


def test_failed_trial_is_recorded_and_the_search_continues(config: Path, tmp_path: Path) -> None:
    """Only the trial whose loss diverges fails."""
    result = run(config, tmp_path / "out", space=("train.learning_rate=0.005,1e30",), trials=4)
    states = {trial.values["train.learning_rate"]: trial for trial in result.trials}

    assert states["0.005"].state == "finished"
    assert states["1e30"].state == "failed"
    assert "diverged" in (states["1e30"].error or "")
    assert states["1e30"].folder in (tmp_path / "out" / "search.md").read_text()


def test_unknown_loss_is_refused_before_any_trial(config: Path, tmp_path: Path) -> None:
    """No run could train with such a value."""
    with pytest.raises(UsageError, match="unknown loss 'no-such-loss'"):
        run(config, tmp_path / "out", space=("tasks.topics.loss.name=bce,no-such-loss",))

    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changed", "what"),
    [({"space": (LOSSES,)}, "space"), ({"overrides": ("train.epochs=1",)}, "config")],
)
def test_folder_of_another_search_is_refused(
    config: Path, tmp_path: Path, changed: dict[str, Any], what: str
) -> None:
    """A folder belongs to one config and one space."""
    run(config, tmp_path / "out", trials=1)

    with pytest.raises(OutputError, match=f"another {what}"):
        run(config, tmp_path / "out", trials=2, **changed)


def test_two_concurrent_searches_do_not_share_a_folder(config: Path, tmp_path: Path) -> None:
    """The second one fails at once."""
    (tmp_path / "out").mkdir()

    with FileLock(tmp_path / "out" / ".lock"), pytest.raises(LockedError, match="another process"):
        run(config, tmp_path / "out")


def test_study_opens_in_optuna(config: Path, tmp_path: Path) -> None:
    """The stored study is an ordinary one, for optuna's own tools."""
    result = run(config, tmp_path / "out", trials=2)
    storage = JournalStorage(JournalFileBackend(str(tmp_path / "out" / "study.jsonl")))
    study = optuna.load_study(study_name="search", storage=storage)

    assert result.best is not None
    assert study.best_value == result.best.metric


def test_table_ranks_trials_and_lists_failures(tmp_path: Path) -> None:
    """The best trial comes first, one without an epoch last, with the error below."""
    trials = (
        record("t0", a="1", state="pruned", metric=0.4),
        record("t1", a="2", state="failed", metric=None),
        record("t2", a="4", state="finished", metric=0.7),
    )
    write_report(SearchResult(metric_name="mean_f1", trials=trials), tmp_path)
    lines = (tmp_path / "search.md").read_text().splitlines()

    rows = [line for line in lines if line.startswith("| t")]
    assert rows == [
        "| trial | a | mean_f1 | best epoch | epochs | minutes | state |",
        "| t2 | 4 | 0.7000 | 1 | 1 | 1.5 | finished |",
        "| t0 | 1 | 0.4000 | 1 | 1 | 1.5 | pruned |",
        "| t1 | 2 |  |  | 0 | 1.5 | failed |",
    ]
    assert lines[-1] == "- t1: no"


def test_command_prints_the_options_to_reuse(config: Path, tmp_path: Path) -> None:
    """The last line can be appended to `train-classifier CONFIG`."""
    done = command(config, tmp_path / "out", "--space", RATES, "--trials", "1", "--budget", "5m")

    assert done.exit_code == 0, done.output
    assert done.output.splitlines()[-1].startswith("values: --set train.learning_rate=")


def test_command_fails_without_a_result(config: Path, tmp_path: Path) -> None:
    """A search without any trained epoch is a failure, and names the report."""
    space = "train.learning_rate=1e30,2e30"
    done = command(config, tmp_path / "out", "--space", space, "--trials", "2")

    assert done.exit_code == 1
    assert "no trial has finished an epoch" in done.output
    assert "diverged" in (tmp_path / "out" / "search.md").read_text()


@pytest.mark.parametrize("budget", ["soon", "10 m", "m5"])
def test_invalid_budget_is_a_usage_error(config: Path, tmp_path: Path, budget: str) -> None:
    """A budget has a number and a unit."""
    done = command(config, tmp_path / "out", "--space", RATES, "--budget", budget)

    assert done.exit_code == 2
    assert "write 90s, 45m or 1h30m" in done.output


def test_durations_add_up() -> None:
    """Units may be combined; a number without unit is seconds."""
    assert [parse_duration(text) for text in ("90", "90s", "45m", "1h30m", "0.5d")] == [
        90.0,
        90.0,
        2700.0,
        5400.0,
        43200.0,
    ]


def test_names_stay_text_in_the_table(tmp_path: Path) -> None:
    """Markup in values, folders and errors cannot add cells, HTML or lines."""
    evil = "<b>|\n| forged |"
    failed = record("t0", a=evil, state="failed", metric=None)
    trials = (failed.model_copy(update={"folder": evil, "error": evil}),)
    write_report(SearchResult(metric_name="mean_f1", trials=trials), tmp_path)
    lines = (tmp_path / "search.md").read_text().splitlines()
    shown = r"\<b>\|\\n\| forged \|"

    assert lines[-3] == f"| {shown} | {shown} |  |  | 0 | 1.5 | failed |"
    assert lines[-1] == f"- {shown}: {shown}"
