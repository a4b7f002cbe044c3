"""A short run of the fuzzer, and proof that it detects every kind of problem."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.robustness.fuzz.__main__ import summarize
from tests.robustness.fuzz.cases.kinds import KINDS, SCHEDULE, make_case
from tests.robustness.fuzz.inputs import FuzzInputs
from tests.robustness.fuzz.run_case import Command, FuzzRun, Outcome, batch_classify
from tests.robustness.fuzz.workers import ENGINE_CRASH, TIMEOUT_S, UNVERIFIABLE_KINDS, run_cases

CASES = 2 * len(SCHEDULE)


def _output(arguments: list[str]) -> Path:
    output = Path(arguments[arguments.index("--output") + 1])
    (output / "predictions").mkdir(parents=True, exist_ok=True)
    return output


def half_written(arguments: list[str]) -> None:
    """Writes the beginning of a part under its final name."""
    (_output(arguments) / "predictions" / "part-00000.parquet").write_bytes(b"PAR1 and so on")


def finished_too_early(arguments: list[str]) -> None:
    """Writes run.json as if finished, and exits with an error."""
    output = _output(arguments)
    (output / "run.json").write_text("{}")
    sys.stderr.write(f"Error: {output}: something else went wrong")
    sys.exit(1)


def miscounted(arguments: list[str]) -> None:
    """Counts other rows than those of the part that it lists."""
    output = _output(arguments)
    pq.write_table(pa.table({"a": [1]}), output / "predictions" / "part-00000.parquet")
    outputs = '{"predictions/part-00000.parquet": {"sha256": "0"}}'
    (output / "run.json").write_text(
        f'{{"outputs": {outputs}, "counts": {{"rows": 2, "quarantined": 0}}}}'
    )


def uncaught(arguments: list[str]) -> None:
    """Raises an error that nothing catches."""
    raise KeyError(arguments[0])


def silent(arguments: list[str]) -> None:
    """Fails without a message."""
    sys.exit(1)


def vague(arguments: list[str]) -> None:
    """Fails with a message that names no file."""
    sys.stderr.write("Error: something is wrong with one of the files")
    sys.exit(1)


def strange_exit(arguments: list[str]) -> None:
    """Exits with an undefined exit code."""
    sys.exit(17)


def hanging(arguments: list[str]) -> None:
    """Never exits."""
    time.sleep(3600)


def crashed(arguments: list[str]) -> None:
    """Crashes its process, as a native library might."""
    os.abort()


def half_written_again(arguments: list[str]) -> None:
    """Cases after a crash are run in a new process."""
    half_written(arguments)


@pytest.fixture(scope="session")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> FuzzInputs:
    """Valid inputs of all cases."""
    from tests.robustness.fuzz.prepare import prepare_inputs  # workers import this module: no torch

    return prepare_inputs(tmp_path_factory.mktemp("fuzz") / "inputs")


@pytest.fixture
def fuzz(inputs: FuzzInputs) -> Callable[..., list[Outcome]]:
    """Runs cases by their numbers; returns outcomes in the order of arrival."""

    def fuzz(
        numbers: list[int], command: Command = batch_classify, timeout_s: float = TIMEOUT_S
    ) -> list[Outcome]:
        run = FuzzRun(inputs, inputs.folder.parent, seed=5, command=command)
        with closing(run_cases(run, numbers, jobs=1, timeout_s=timeout_s)) as outcomes:
            return list(outcomes)

    return fuzz


def test_broken_inputs_cause_no_findings(fuzz: Callable[..., list[Outcome]]) -> None:
    """No traceback, no hang, no partial file, with inputs of every kind."""
    outcomes = fuzz(list(range(CASES)))

    assert [outcome for outcome in outcomes if outcome.problems] == []
    assert {outcome.kind for outcome in outcomes} == set(KINDS)
    assert sum(outcome.exit_code is None for outcome in outcomes) < CASES / 10


STUBS = {
    half_written: "predictions/part-00000.parquet cannot be read",
    finished_too_early: "run.json exists and the exit code is 1",
    miscounted: "run.json counts",
    uncaught: "'Traceback' in the output",
    silent: "without a useful message",
    vague: "names no file",
    strange_exit: "exit code 17",
    crashed: "crashed its process: SIGABRT",
    hanging: "took longer than 10 s",
    half_written_again: "predictions/part-00000.parquet cannot be read",
}


def any_stub(arguments: list[str]) -> None:
    """Runs the stub of a case: the first one for case 0, then one for each repeated schedule."""
    number = int(Path(arguments[arguments.index("--output") + 1]).parent.name)
    [*STUBS][number // len(SCHEDULE)](arguments)


def test_every_broken_promise_is_a_finding(fuzz: Callable[..., list[Outcome]]) -> None:
    """A finding names the broken promise; a crashed or hanging process is replaced."""
    numbers = [index * len(SCHEDULE) for index in range(len(STUBS))]
    outcomes = fuzz(numbers, any_stub, timeout_s=10.0)

    for outcome, (stub, expected) in zip(outcomes, STUBS.items(), strict=True):
        assert any(expected in problem for problem in outcome.problems), (stub.__name__, outcome)
    assert summarize(outcomes)[SCHEDULE[0]]["findings"] == len(STUBS)


def test_only_an_engine_may_crash_over_a_graph(fuzz: Callable[..., list[Outcome]]) -> None:
    """A crash outside of an engine is a finding for damaged graphs too."""
    (outcome,) = fuzz([SCHEDULE.index("bundle graph")], crashed)

    assert outcome.kind in UNVERIFIABLE_KINDS
    assert outcome.problems == ("crashed its process: SIGABRT",)


def killed_the_first_time(arguments: list[str]) -> None:
    """Crashes silently the first time only."""
    before = Path(arguments[arguments.index("--bundle") + 1]).parents[1] / "before"
    if not before.exists():
        before.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    vague([])


def test_silent_crash_is_run_again(fuzz: Callable[..., list[Outcome]]) -> None:
    """The outcome is that of the second process; later cases are run too."""
    numbers = [SCHEDULE.index("bundle graph"), SCHEDULE.index("bundle graph") + len(SCHEDULE)]
    first, second = fuzz(numbers, killed_the_first_time)

    assert [first.number, second.number] == numbers
    assert [first.exit_code, second.exit_code] == [1, 1]


@pytest.mark.parametrize(
    ("innermost", "in_engine"),
    [
        ('File "/site-packages/openvino/_ov_api.py", line 601 in read_model', True),
        ('File "/site-packages/onnxruntime/capi/collection.py", line 1 in run', True),
        ('File "batch/engines/openvino.py", line 57 in __init__', True),
        ("<no Python frame>", True),
        ('File "/site-packages/pyarrow/parquet/core.py", line 350 in __init__', False),
        ('File "batch/engines/onnx_file.py", line 60 in check_onnx', False),
    ],
)
def test_engine_crash_is_recognized_by_the_innermost_call(innermost: str, in_engine: bool) -> None:
    """Outer calls and other threads are ignored."""
    outer = '  File "batch/engines/openvino.py", line 53 in __init__'
    other = f"Thread 0x00007f2f (most recent call first):\n{outer}\n"
    report = (
        f"{other}\nCurrent thread 0x00007f2f (most recent call first):\n  {innermost}\n{outer}\n"
    )

    assert bool(ENGINE_CRASH.search(report)) == in_engine


def test_seed_and_number_determine_a_case(inputs: FuzzInputs, tmp_path: Path) -> None:
    """The same seed gives the same bytes and arguments; another seed gives another case."""
    cases: list[tuple[tuple[str, ...], bytes]] = []
    for seed in (1, 1, 2):
        folder = tmp_path / f"{len(cases)}" / "0"
        folder.mkdir(parents=True)
        case = make_case(inputs, seed, 0, folder)
        arguments = tuple(word.replace(str(folder), "") for word in case.arguments)
        cases.append((arguments, (folder / "corpus.parquet").read_bytes()))

    assert cases[0] == cases[1]
    assert cases[0] != cases[2]
