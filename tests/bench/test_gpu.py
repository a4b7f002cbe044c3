"""What the benchmark on a GPU promises: it runs unattended, and its page says what was not run."""

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
def test_without_cuda_the_benchmark_ends_at_once(bundle: Path, tmp_path: Path) -> None:
    """Exit 1 with what is missing, and no results."""
    results = tmp_path / "gpu.json"
    words = ["checks", "--bundle", str(bundle), "--task", "narrative", "--results", str(results)]
    result = CliRunner().invoke(main, words)

    assert result.exit_code == 1
    assert result.output.startswith("Error: this benchmark needs CUDA: ")
    assert not results.exists()


def test_checks_can_be_tried_out_on_a_cpu(bundle: Path, tmp_path: Path) -> None:
    """Every check that needs no GPU passes on a CPU, through batch-classify itself."""
    results = tmp_path / "gpu.json"
    words = ["checks", "--bundle", str(bundle), "--task", "narrative", "--device", "cpu"]
    words += ["--results", str(results), "--work", str(tmp_path / "work")]
    result = CliRunner().invoke(main, words)
    steps = read_steps(results)

    assert result.exit_code == 0, result.output
    assert {"doctor", "fp32 as a CPU", "fp32 same bits", "killed and resumed"} <= set(steps)
    assert steps["fp32 same bits"]["arrangements"] == ["again", "small-chunks", "shuffled"]


def test_a_failed_step_leaves_its_error_and_the_next_one_runs(tmp_path: Path) -> None:
    """And a later run of the benchmark replaces the steps that it repeats, and keeps the others."""
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


def test_the_page_is_the_one_of_the_results() -> None:
    """What was not measured is named at its beginning."""
    text = page.PAGE.read_text(encoding="utf-8")

    assert text == page.render(read_steps(RESULTS_FILE))
    assert ("**Not measured yet**" in text) == bool(page.EXPECTED.keys() - read_steps(RESULTS_FILE))


def test_busy_time_counts_overlaps_once() -> None:
    """Kernels of two streams at the same time are one busy GPU."""
    spans = [(0, 1_000_000_000), (500_000_000, 2_000_000_000), (3_000_000_000, 4_000_000_000)]

    assert kernels.busy_seconds(spans) == 3.0


def test_idle_time_between_busy_samples_counts() -> None:
    """A GPU that waits for its input is not busy; what comes before and after does not count."""
    assert speed.gpu_use([0, 0, 80, 0, 40, 0]) == 0.4
    assert speed.gpu_use([0, 0]) == 0.0


def test_the_unattended_script_calls_verbs_that_exist() -> None:
    """And bash can parse it."""
    text = SCRIPT.read_text(encoding="utf-8")
    called = {line.split()[3] for line in text.splitlines() if line.startswith("gpu ")}

    assert subprocess.run(["bash", "-n", str(SCRIPT)], check=False).returncode == 0
    assert called <= set(main.commands)
    assert {"checks", "speed", "whole", "kernels"} <= called
