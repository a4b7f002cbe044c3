"""What several processes promise: the run of one, only shared out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from safetensors.numpy import load_file

from tests.trainer.conftest import topic_rows, write_corpus, write_run

PROCESSES = 2
LAUNCH = ("-m", "accelerate.commands.launch", "--multi_gpu", "--num_machines", "1")
PLAIN = ("--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0")
PATIENCE_S = 180
SETTINGS = (
    ("train.epochs", "3"),
    ("train.dropout", "0.0"),  # each process draws its own
    ("train.save_every_s", "0"),
    ("train.batch_rows", "5"),  # an odd row in every batch, and one row alone in the last
)


def command(config: Path, output: Path, *, processes: int) -> list[str]:
    """The command of a run in so many processes."""
    launch = [*LAUNCH, "--num_processes", str(processes), *PLAIN] if processes > 1 else []
    settings = [word for key, value in SETTINGS for word in ("--set", f"{key}={value}")]
    trainer = ["-m", "trainer.cli", str(config), "--output", str(output), *settings]
    return [sys.executable, *launch, *trainer]


def environment() -> dict[str, str]:
    """One thread a process, and no GPU."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


def run(config: Path, output: Path, *, processes: int) -> str:
    """Run to the end; returns what was printed."""
    done = subprocess.run(
        command(config, output, processes=processes),
        env=environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def epoch_of(state: Path) -> int | None:
    """The epoch of a saved state; None while there is none, as when it is being replaced."""
    try:
        found: int = json.loads(state.read_text())["epoch"]
    except FileNotFoundError:
        return None
    return found


def epochs(output: Path) -> list[dict[str, Any]]:
    """Every epoch of a finished run."""
    found: list[dict[str, Any]] = json.loads((output / "history.json").read_text())["epochs"]
    return found


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory, encoder: Path) -> Path:
    """A config beside its corpus."""
    folder = tmp_path_factory.mktemp("run")
    write_corpus(folder, topic_rows())
    return write_run(folder, encoder)


@pytest.fixture(scope="module")
def two_processes(config: Path) -> Path:
    """A run in two processes."""
    output = config.parent / "two"
    assert "2 processes" in run(config, output, processes=PROCESSES)
    return output


def test_two_processes_give_the_loss_curve_of_one(two_processes: Path, config: Path) -> None:
    """Losses, scores and weights of two processes are those of one, to rounding."""
    one_process = config.parent / "one"
    run(config, one_process, processes=1)
    alone, together = epochs(one_process), epochs(two_processes)

    for key in ("loss", "validation_loss"):
        expected = [epoch[key]["topics"] for epoch in alone]
        assert [epoch[key]["topics"] for epoch in together] == pytest.approx(expected, rel=1e-4)
    weights = load_file(two_processes / "model.safetensors")
    for name, values in load_file(one_process / "model.safetensors").items():
        if not name.endswith("key.bias"):  # no gradient but rounding, which AdamW blows up
            assert weights[name] == pytest.approx(values, abs=1e-3), name


def test_killed_processes_go_on_to_the_same_end(
    two_processes: Path, config: Path, tmp_path: Path
) -> None:
    """Both processes killed in the second epoch: the same command ends like an unbroken run."""
    killed = tmp_path / "killed"
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            command(config, killed, processes=PROCESSES),
            stdout=log,
            stderr=log,
            env=environment(),
        )
        deadline = time.monotonic() + PATIENCE_S
        while epoch_of(killed / "state" / "run" / "run.json") != 1:
            assert time.monotonic() < deadline, (tmp_path / "log").read_text()
            assert process.poll() is None, (tmp_path / "log").read_text()
            time.sleep(0.005)
        family = [*psutil.Process(process.pid).children(recursive=True), process]
        for member in family:
            member.kill()
        for member in family:
            member.wait()
    assert not (killed / "checkpoint.json").exists()

    printed = run(config, killed, processes=PROCESSES)
    assert "resuming at step" in printed
    assert "2 processes" in printed
    weights, unbroken = (folder / "model.safetensors" for folder in (killed, two_processes))
    assert weights.read_bytes() == unbroken.read_bytes()
    assert not (killed / "state").exists()
