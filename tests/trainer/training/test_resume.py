"""What a run that was stopped promises: the same command resumes as if nothing had happened."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import polars as pl
import pytest

from schemas.config.models import TrainingRun
from schemas.errors import CheckpointError
from trainer.checkpoint.reader import Checkpoint
from trainer.training.loop import train

Row: TypeAlias = dict[str, Any]
MakeRun: TypeAlias = Callable[..., TrainingRun]

COMMAND = Path(sys.executable).parent / "train-classifier"
PATIENCE_S = 120
EVERY_STEP = ("train.epochs=3", "train.save_every_s=0")


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder but those that hold times."""
    timed = {"history.json", "curves.png", ".lock"}
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name not in timed
    }


def numbers(folder: Path) -> list[dict[str, Any]]:
    """Loss, scores and rate of every epoch."""
    names = ("epoch", "loss", "validation", "metric", "learning_rate")
    stored = json.loads((folder / "history.json").read_text())["epochs"]
    return [{name: epoch[name] for name in names} for epoch in stored]


class InterruptAt(logging.Handler):
    """Presses Ctrl-C when a certain line is logged."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text

    def emit(self, record: logging.LogRecord) -> None:
        if self.text in record.getMessage():
            raise KeyboardInterrupt


@contextmanager
def interrupted_at(text: str) -> Iterator[None]:
    """Stops a run when it logs `text`."""
    log = logging.getLogger("trainer")
    handler, level = InterruptAt(text), log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        with pytest.raises(KeyboardInterrupt):
            yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)


def stored_state(output: Path) -> dict[str, Any]:
    """What the saved state says of itself, or nothing while there is none."""
    try:
        found: dict[str, Any] = json.loads((output / "state" / "run" / "run.json").read_text())
    except FileNotFoundError:
        return {}
    return found


def test_killed_run_goes_on_to_the_same_end(
    make_run: MakeRun, config_file: Path, tmp_path: Path
) -> None:
    """Killed with SIGKILL in its second epoch, a run ends in the weights of one that was not."""
    output = tmp_path / "killed"
    settings = [word for override in EVERY_STEP for word in ("--set", override)]
    command = [str(COMMAND), str(config_file), "--output", str(output), *settings]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    train(make_run(*EVERY_STEP), tmp_path / "whole")
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        deadline = time.monotonic() + PATIENCE_S
        while stored_state(output).get("epoch") != 1 and process.poll() is None:
            assert time.monotonic() < deadline, (tmp_path / "log").read_text()
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, (tmp_path / "log").read_text()
    assert not (output / "checkpoint.json").exists()

    again = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert "resuming at step" in again.stderr
    assert contents(output) == contents(tmp_path / "whole")
    assert numbers(output) == numbers(tmp_path / "whole")
    assert not list(output.rglob(".*"))


@pytest.mark.parametrize("save_every_s", ["0", "1000"])
def test_run_interrupted_twice_goes_on_to_the_same_end(
    make_run: MakeRun, tmp_path: Path, save_every_s: str
) -> None:
    """However often the state is saved, interrupted epochs are finished or done again alike."""
    overrides = ("train.epochs=3", f"train.save_every_s={save_every_s}")
    train(make_run(*overrides), tmp_path / "whole")
    for line in ("epoch 1 of 3", "epoch 3 of 3"):
        with interrupted_at(line):
            train(make_run(*overrides), tmp_path / "stopped")
    train(make_run(*overrides), tmp_path / "stopped")

    assert contents(tmp_path / "stopped") == contents(tmp_path / "whole")
    assert numbers(tmp_path / "stopped") == numbers(tmp_path / "whole")


def test_how_often_state_is_saved_does_not_matter(make_run: MakeRun, tmp_path: Path) -> None:
    """Saving draws no random number and changes no weight."""
    for name, seconds in (("often", "0"), ("never", "1000")):
        train(make_run(f"train.save_every_s={seconds}"), tmp_path / name)

    assert numbers(tmp_path / "often") == numbers(tmp_path / "never")
    often, never = (tmp_path / name / "model.safetensors" for name in ("often", "never"))
    assert often.read_bytes() == never.read_bytes()


def test_kill_between_two_renamings_of_the_state_loses_no_step(
    make_run: MakeRun, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A state that was being replaced when the kill came is found again."""
    with interrupted_at("epoch 2 of 3"):
        train(make_run(*EVERY_STEP), tmp_path / "out")
    state = tmp_path / "out" / "state"
    (state / "run").rename(state / ".run.old")
    with caplog.at_level(logging.INFO):
        train(make_run(*EVERY_STEP), tmp_path / "out")

    assert "resuming at step" in caplog.text


def test_state_of_another_config_is_refused(make_run: MakeRun, tmp_path: Path) -> None:
    """An unfinished run cannot resume with other settings."""
    with interrupted_at("epoch 1 of 3"):
        train(make_run(*EVERY_STEP), tmp_path / "out")
    before = contents(tmp_path / "out")

    with pytest.raises(
        CheckpointError, match=r"a run with another config, .*\nhint: .*--overwrite"
    ):
        train(make_run(*EVERY_STEP, "seed=9"), tmp_path / "out")
    assert contents(tmp_path / "out") == before


def test_state_of_other_data_is_refused(
    make_run: MakeRun, corpus: Path, rows: list[Row], tmp_path: Path
) -> None:
    """Nor can it resume with a corpus that was changed meanwhile."""
    with interrupted_at("epoch 1 of 3"):
        train(make_run(*EVERY_STEP), tmp_path / "out")
    pl.DataFrame([{**rows[0], "text": "Corrected."}, *rows[1:]]).write_parquet(corpus)

    with pytest.raises(CheckpointError, match="a run with another data"):
        train(make_run(*EVERY_STEP), tmp_path / "out")


def test_overwrite_forgets_an_unfinished_run(make_run: MakeRun, tmp_path: Path) -> None:
    """With `overwrite` another config starts again where a run was stopped."""
    with interrupted_at("epoch 1 of 3"):
        train(make_run(*EVERY_STEP), tmp_path / "out")
    train(make_run("seed=9"), tmp_path / "out", overwrite=True)
    train(make_run("seed=9"), tmp_path / "fresh")

    assert contents(tmp_path / "out") == contents(tmp_path / "fresh")


def test_training_stops_where_epochs_are_worse_than_an_earlier_one(
    make_run: MakeRun, tmp_path: Path
) -> None:
    """After `patience_epochs` of them the run ends with the better weights, however often it was
    stopped."""
    run = make_run("train.epochs=9", "train.patience_epochs=2", "train.save_every_s=0")
    with interrupted_at("epoch 2 of 9"):
        train(run, tmp_path / "out")
    stored = tmp_path / "out" / "state" / "run" / "run.json"
    state = json.loads(stored.read_text())
    state["history"]["epochs"][0]["metric"] = 1.0
    stored.write_text(json.dumps(state))
    with interrupted_at("epoch 3 of 9"):
        train(run, tmp_path / "out")
    train(run, tmp_path / "out")

    assert [epoch["epoch"] for epoch in numbers(tmp_path / "out")] == [1, 2, 3]
    assert Checkpoint.open(tmp_path / "out").info.best_epoch == 1
