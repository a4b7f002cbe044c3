"""Fuzzing in short, and proof that it finds what it looks for."""

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

from tests.robustness.fuzz.__main__ import (
    IN_ENGINE,
    LIMIT_S,
    UNVOUCHED,
    lay_ground,
    outcomes,
    summary,
)
from tests.robustness.fuzz.case import Bench, Command, Outcome, batch_classify
from tests.robustness.fuzz.kinds import KINDS, TURNS, Ground, make_case

CASES = 2 * len(TURNS)


def _output(words: list[str]) -> Path:
    output = Path(words[words.index("--output") + 1])
    (output / "predictions").mkdir(parents=True, exist_ok=True)
    return output


def half_written(words: list[str]) -> None:
    """Leaves the beginning of a part under its final name."""
    (_output(words) / "predictions" / "part-00000.parquet").write_bytes(b"PAR1 and so on")


def finished_too_early(words: list[str]) -> None:
    """Says in run.json that it is finished, and in its exit code that it is not."""
    output = _output(words)
    (output / "run.json").write_text("{}")
    sys.stderr.write(f"Error: {output}: something else went wrong")
    sys.exit(1)


def miscounted(words: list[str]) -> None:
    """Lists a part that holds other rows than it counts."""
    output = _output(words)
    pq.write_table(pa.table({"a": [1]}), output / "predictions" / "part-00000.parquet")
    outputs = '{"predictions/part-00000.parquet": {"sha256": "0"}}'
    (output / "run.json").write_text(
        f'{{"outputs": {outputs}, "counts": {{"rows": 2, "quarantined": 0}}}}'
    )


def uncaught(words: list[str]) -> None:
    """Ends as a command without error handling does."""
    raise KeyError(words[0])


def silent(words: list[str]) -> None:
    """Fails and does not say why."""
    sys.exit(1)


def vague(words: list[str]) -> None:
    """Fails and does not say over which file."""
    sys.stderr.write("Error: something is wrong with one of the files")
    sys.exit(1)


def strange_exit(words: list[str]) -> None:
    """Ends with a code that means nothing."""
    sys.exit(17)


def hanging(words: list[str]) -> None:
    """Never ends."""
    time.sleep(3600)


def killed(words: list[str]) -> None:
    """Takes its process with it, as a native library might."""
    os.abort()


def half_written_again(words: list[str]) -> None:
    """What comes after a lost process is run all the same."""
    half_written(words)


@pytest.fixture(scope="session")
def ground(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Ground:
    """What cases start from, over the bundle of the tests."""
    return lay_ground(tmp_path_factory.mktemp("fuzz") / "ground", bundle=bundle)


@pytest.fixture
def fuzz(ground: Ground) -> Callable[..., list[Outcome]]:
    """Runs cases by their numbers, in order of the outcomes."""

    def fuzz(
        numbers: list[int], command: Command = batch_classify, limit_s: float = LIMIT_S
    ) -> list[Outcome]:
        bench = Bench(ground, ground.folder.parent, seed=5, command=command)
        with closing(outcomes(bench, numbers, jobs=1, limit_s=limit_s)) as found:
            return list(found)

    return fuzz


def test_broken_inputs_end_as_promised(fuzz: Callable[..., list[Outcome]]) -> None:
    """No traceback, no hang, no half file; every kind of input is among them."""
    found = fuzz(list(range(CASES)))

    assert [(one.number, one.story, one.problems, one.said) for one in found if one.problems] == []
    assert {one.kind for one in found} == set(KINDS)
    assert sum(one.exit_code is None for one in found) < CASES / 10


STUBS = {
    half_written: "predictions/part-00000.parquet cannot be read",
    finished_too_early: "run.json is there and the exit code is 1",
    miscounted: "run.json counts",
    uncaught: "'Traceback' on the screen",
    silent: "hardly a message",
    vague: "names no file",
    strange_exit: "exit code 17",
    killed: "killed its process: SIGABRT",
    hanging: "took longer than 3 s",
    half_written_again: "predictions/part-00000.parquet cannot be read",
}


def any_stub(words: list[str]) -> None:
    """The stub whose turn it is: case 0 gets the first, and so on by twenties."""
    number = int(Path(words[words.index("--output") + 1]).parent.name)
    [*STUBS][number // len(TURNS)](words)


def test_each_broken_promise_is_found(fuzz: Callable[..., list[Outcome]]) -> None:
    """A command that breaks one promise is a finding that names it; a process that is lost, or
    had to be ended, is replaced.
    """
    numbers = [turn * len(TURNS) for turn in range(len(STUBS))]
    found = fuzz(numbers, any_stub, limit_s=3.0)

    for one, (stub, expected) in zip(found, STUBS.items(), strict=True):
        assert any(expected in problem for problem in one.problems), (stub.__name__, one)
    assert summary(found)[TURNS[0]]["findings"] == len(STUBS)


def test_only_an_engine_may_fall_over_a_graph(fuzz: Callable[..., list[Outcome]]) -> None:
    """A process that is lost elsewhere is a finding, whatever was changed."""
    (found,) = fuzz([TURNS.index("bundle graph")], killed)

    assert found.kind in UNVOUCHED
    assert found.problems == ("killed its process: SIGABRT",)


def killed_at_first(words: list[str]) -> None:
    """Is gone without a word, but only the first time."""
    before = Path(words[words.index("--bundle") + 1]).parents[1] / "before"
    if not before.exists():
        before.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    vague([])


def test_what_fell_without_a_word_is_run_again(fuzz: Callable[..., list[Outcome]]) -> None:
    """A new process decides; the numbers after it have their turn all the same."""
    numbers = [TURNS.index("bundle graph"), TURNS.index("bundle graph") + len(TURNS)]
    first, second = fuzz(numbers, killed_at_first)

    assert [one.number for one in (first, second)] == numbers
    assert [one.exit_code for one in (first, second)] == [1, 1]


@pytest.mark.parametrize(
    ("innermost", "excused"),
    [
        ('File "/site-packages/openvino/_ov_api.py", line 601 in read_model', True),
        ('File "/site-packages/onnxruntime/capi/collection.py", line 1 in run', True),
        ('File "batch/engines/openvino.py", line 57 in __init__', True),
        ("<no Python frame>", True),
        ('File "/site-packages/pyarrow/parquet/core.py", line 350 in __init__', False),
        ('File "batch/engines/onnx_file.py", line 60 in check_onnx', False),
    ],
)
def test_an_engine_is_told_by_the_innermost_call(innermost: str, excused: bool) -> None:
    """Callers further out, and other threads, have no say."""
    outer = '  File "batch/engines/openvino.py", line 53 in __init__'
    other = f"Thread 0x00007f2f (most recent call first):\n{outer}\n"
    said = f"{other}\nCurrent thread 0x00007f2f (most recent call first):\n  {innermost}\n{outer}\n"

    assert bool(IN_ENGINE.search(said)) == excused


def test_seed_and_number_determine_a_case(ground: Ground, tmp_path: Path) -> None:
    """The same bytes and the same words, whatever ran before; another seed makes another case."""
    made: list[tuple[tuple[str, ...], bytes]] = []
    for seed in (1, 1, 2):
        folder = tmp_path / f"{len(made)}" / "0"
        folder.mkdir(parents=True)
        case = make_case(ground, seed, 0, folder)
        words = tuple(word.replace(str(folder), "") for word in case.words)
        made.append((words, (folder / "corpus.parquet").read_bytes()))

    assert made[0] == made[1]
    assert made[0] != made[2]
