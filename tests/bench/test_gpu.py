"""GPU benchmark: it runs unattended, and its page lists the steps that were not run."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from batch.machine.device import cuda_problem
from bench.gpu import kernels, page, speed
from bench.gpu.__main__ import RESULTS_FILE, main
from bench.gpu.steps import Steps, read_steps

SCRIPT = Path(page.__file__).with_name("unattended.sh")


@pytest.mark.skipif(cuda_problem() is None, reason="CUDA works here")
def test_without_cuda_the_benchmark_exits_immediately(bundle: Path, tmp_path: Path) -> None:
    """Exit code 1, a message that CUDA is missing, and no results."""
    results = tmp_path / "gpu.json"
    arguments = [
        "checks",
        "--bundle",
        str(bundle),
        "--task",
        "narrative",
        "--results",
        str(results),
    ]
    result = CliRunner().invoke(main, arguments)

    assert result.exit_code == 1
    assert result.output.startswith("Error: this benchmark needs CUDA: ")
    assert not results.exists()


def test_checks_run_on_a_cpu(bundle: Path, tmp_path: Path) -> None:
    """Every check that needs no GPU passes on a CPU, through batch-classify itself."""
    results = tmp_path / "gpu.json"
    arguments = ["checks", "--bundle", str(bundle), "--task", "narrative", "--device", "cpu"]
    arguments += ["--results", str(results), "--work", str(tmp_path / "work")]
    result = CliRunner().invoke(main, arguments)
    steps = read_steps(results)

    assert result.exit_code == 0, result.output
    assert {"doctor", "fp32 matches a CPU", "fp32 bit-identical", "killed and resumed"} <= set(
        steps
    )
    assert steps["fp32 bit-identical"]["variations"] == ["repeated", "small-chunks", "shuffled"]


def test_failed_step_is_recorded_and_later_steps_run(tmp_path: Path) -> None:
    """A later run of the benchmark replaces only the steps that it repeats."""
    file = tmp_path / "gpu.json"

    def fail() -> dict[str, object]:
        raise AssertionError("a probability differs by 0.5")

    first = Steps(file)
    first.run("fails", fail)
    first.run("passes", lambda: {"rows": 3})
    second = Steps(file)
    second.run("passes", lambda: {"rows": 4})

    assert second.failed == ["fails"]
    assert "a probability differs by 0.5" in str(read_steps(file)["fails"]["error"])
    assert read_steps(file)["passes"]["rows"] == 4


def test_page_matches_the_results() -> None:
    """Steps that were not measured are listed at its beginning."""
    text = page.PAGE.read_text(encoding="utf-8")

    assert text == page.render(read_steps(RESULTS_FILE))
    assert ("**Not measured yet**" in text) == bool(page.EXPECTED.keys() - read_steps(RESULTS_FILE))


def test_busy_time_counts_overlaps_once() -> None:
    """Two kernels that run at the same time keep one GPU busy."""
    spans = [(0, 1_000_000_000), (500_000_000, 2_000_000_000), (3_000_000_000, 4_000_000_000)]

    assert kernels.busy_seconds(spans) == 3.0


def test_idle_time_between_busy_samples_counts() -> None:
    """A GPU that waits for input is not busy; samples before and after the run do not count."""
    assert speed.gpu_use([0, 0, 80, 0, 40, 0]) == 0.4
    assert speed.gpu_use([0, 0]) == 0.0


def test_unattended_script_calls_existing_commands() -> None:
    """Bash can parse the script, and `bench.gpu` has every command that it calls."""
    text = SCRIPT.read_text(encoding="utf-8")
    called = {line.split()[3] for line in text.splitlines() if line.startswith("gpu ")}

    assert subprocess.run(["bash", "-n", str(SCRIPT)], check=False).returncode == 0
    assert called <= set(main.commands)
    assert {"checks", "speed", "whole", "kernels"} <= called
