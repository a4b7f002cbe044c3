"""Every stage of a command can be stopped within two seconds, with exit 4, and resumed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from batch.pipeline.stop import GRACE_S, StopSwitch
from schemas.errors import StoppedError

Write = Callable[..., Path]
Score = Callable[..., pa.Table]
Words = Callable[..., list[str]]
Contents = Callable[[Path], dict[str, bytes]]

PROMISED_S = 2.0
SLACK_S = 3.0
"""Long enough for a busy machine: the tests separate two seconds from forever."""

TEXTS = ["Aid is wasted by officials.", "Sanctions hurt us.", "Talks now, or war for ever."]

STUCK = """
import os, sys, time
from pathlib import Path
import {module}
def stuck(*arguments, **options):
    Path(os.environ["STUCK"]).touch()
    {wait}
{module}.{name} = stuck
from batch.__main__ import main
main()
"""
"""A run in which one stage never returns: in Python, or in C code that lets no handler run."""

IN_C = "import threading; lock = threading.Lock(); lock.acquire(); lock.acquire()"
IN_PYTHON = "[time.sleep(0.05) for _ in iter(int, 1)]"

STAGES = {
    "bundle": ("batch.pipeline.run", "open_bundle"),
    "model": ("batch.pipeline.run", "open_scorer"),
    "listing": ("batch.corpus.plan", "find_files"),
    "footers": ("batch.corpus.plan", "read_footer"),
    "gold": ("batch.pipeline.run", "check_gold"),
    "finished parts": ("batch.output.folder", "FileFacts.of"),
    "writing": ("batch.output.locked", "write_part"),
    "report": ("batch.output.publish", "write_report"),
}


def stopped_while_stuck(
    program: str, command: list[str], flag: Path, number: signal.Signals
) -> tuple[int, float, str]:
    """Signal a process that is stuck. Returns exit code, seconds until it ended, and its stderr."""
    environment = {**os.environ, "STUCK": str(flag)}
    with subprocess.Popen(
        [sys.executable, "-c", program, *command],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        while not flag.exists() and process.poll() is None:
            time.sleep(0.01)
        started = time.monotonic()
        process.send_signal(number)
        try:
            _, said = process.communicate(timeout=60)
        finally:
            process.kill()
    return process.returncode, time.monotonic() - started, said


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_that_never_returns_is_ended_and_can_be_resumed(
    write: Write, words: Words, score: Score, tmp_path: Path, contents: Contents, stage: str
) -> None:
    """SIGTERM works even if no Python signal handler can run."""
    corpus = write({"text": TEXTS, "narratives": [["Other"]] * 3})
    options = {"chunk_rows": 1, "gold_column": "narratives", "output": tmp_path / "scored"}
    if stage == "finished parts":
        score(corpus, **options)
    module, name = STAGES[stage]
    program = STUCK.format(module=module, name=name, wait=IN_C)
    code, seconds, said = stopped_while_stuck(
        program, words(corpus, **options)[1:], tmp_path / "stuck", signal.SIGTERM
    )
    score(corpus, **options)
    score(corpus, **{**options, "output": tmp_path / "fresh"})

    assert (tmp_path / "stuck").exists(), said
    assert code == 4, said
    assert seconds < PROMISED_S + SLACK_S
    assert "stopped by SIGTERM" in said
    assert "hint: the same command resumes" in said
    assert contents(tmp_path / "scored") == contents(tmp_path / "fresh")


def test_a_second_signal_ends_at_once(write: Write, words: Words, tmp_path: Path) -> None:
    """A second Ctrl-C does not wait for the grace period; a busy machine may delay one attempt."""
    command = words(write({"text": TEXTS}), output=tmp_path / "scored")[1:]
    program = STUCK.format(module="batch.corpus.plan", name="find_files", wait=IN_PYTHON)
    program = program.replace("touch()\n", "touch(); import signal; signal.raise_signal(2)\n")
    attempts = []
    for number in range(3):
        stuck = tmp_path / f"stuck-{number}"
        code, seconds, said = stopped_while_stuck(program, command, stuck, signal.SIGINT)
        attempts.append(seconds)
        assert code == 4, said
        assert "stopped by SIGINT" in said
        if seconds < GRACE_S:
            break

    assert min(attempts) < GRACE_S, "the grace period is longer"


def test_a_deadline_ends_a_stage_that_never_checks_it(
    write: Write, words: Words, tmp_path: Path
) -> None:
    """The message is one JSON object if the log is JSON."""
    command = words(
        write({"text": TEXTS}), output=tmp_path / "scored", deadline="5s", log_format="json"
    )[1:]
    program = STUCK.format(module="batch.corpus.plan", name="find_files", wait=IN_C)
    environment = {**os.environ, "STUCK": str(tmp_path / "stuck")}
    started = time.monotonic()
    run = subprocess.run(
        [sys.executable, "-c", program, *command],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    seconds = time.monotonic() - started
    last = json.loads(run.stderr.splitlines()[-1])

    assert run.returncode == 4
    assert 5 < seconds < 5 + PROMISED_S + SLACK_S
    assert last["event"] == "error"
    assert "the deadline is reached" in last["message"]


EARLY = """
import os, signal, sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == {0!r}:
            os.kill(os.getpid(), signal.SIGTERM)
sys.meta_path.insert(0, Finder())
from batch.__main__ import main
main()
"""


@pytest.mark.parametrize("module", ["click", "batch.cli", "numpy", "pyarrow", "openvino"])
def test_a_signal_during_start_up_is_a_stop(
    write: Write, words: Words, tmp_path: Path, module: str
) -> None:
    """While the first modules are imported, before any option is parsed."""
    command = words(write({"text": TEXTS}), output=tmp_path / "scored")[1:]
    run = subprocess.run(
        [sys.executable, "-c", EARLY.format(module), *command],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert run.returncode == 4, run.stderr
    assert "stopped by SIGTERM" in run.stderr
    assert not (tmp_path / "scored" / "run.json").exists()


LATE = """
import atexit, os, signal, sys
atexit.register(os.kill, os.getpid(), signal.{0})
from batch.__main__ import main
main()
"""


@pytest.mark.parametrize("number", ["SIGTERM", "SIGINT"])
def test_a_signal_after_the_work_does_not_change_the_exit_code(
    write: Write, words: Words, tmp_path: Path, number: str
) -> None:
    """During interpreter shutdown, the run is finished and reports success."""
    command = words(write({"text": TEXTS}), output=tmp_path / "scored")[1:]
    run = subprocess.run(
        [sys.executable, "-c", LATE.format(number), *command],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert run.returncode == 0, run.stderr
    assert "3 rows: 3 scored" in run.stderr


def test_a_merge_can_be_stopped_and_resumed(
    write: Write, words: Words, score: Score, tmp_path: Path, contents: Contents
) -> None:
    """Between two chunks, or while one is copied from a slow disk."""
    corpus = write({"text": TEXTS})
    shards = []
    for number in (1, 2):
        shards.append(str(tmp_path / str(number)))
        score(corpus, chunk_rows=1, shard=f"{number}/2", output=Path(shards[-1]))
    score(corpus, chunk_rows=1, output=tmp_path / "fresh")
    merging = ["merge", *shards, "--output", str(tmp_path / "merged")]
    program = STUCK.format(module="batch.output.locked", name="shutil.copyfile", wait=IN_C)
    code, seconds, said = stopped_while_stuck(program, merging, tmp_path / "stuck", signal.SIGTERM)
    again = subprocess.run(
        [sys.executable, "-m", "batch", *merging], capture_output=True, text=True, check=False
    )

    assert code == 4, said
    assert seconds < PROMISED_S + SLACK_S
    assert again.returncode == 0, again.stderr
    assert contents(tmp_path / "merged") == contents(tmp_path / "fresh")


def test_a_deadline_is_measured_from_the_start_of_the_process() -> None:
    """Even if it is set later; a switch without a deadline never stops by itself."""
    switch = StopSwitch()
    switch.check()
    switch.set_deadline(0.0)

    with pytest.raises(StoppedError, match="the deadline is reached"):
        switch.check()
