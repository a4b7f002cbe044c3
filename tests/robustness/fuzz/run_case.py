"""Runs a single fuzzing case in this process and checks the results."""

from __future__ import annotations

import faulthandler
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from tests.robustness.fuzz.cases.case import Case
from tests.robustness.fuzz.cases.kinds import UnwritableInputError, kind_of, make_case
from tests.robustness.fuzz.cases.process import ProcessConditions
from tests.robustness.fuzz.checks import Finished, file_facts, find_problems
from tests.robustness.fuzz.inputs import FuzzInputs
from tests.robustness.processes import COMMAND, start_process, wait_for_signal_handler

Command = Callable[[list[str]], None]
"""Takes command-line arguments and exits as a console script does, with SystemExit."""

MAX_MEMORY_BYTES = 4 * 2**30
"""Address space of a worker, twice that of an ordinary run."""
STDERR_CHARACTERS = 3000
"""Last characters of stderr that an outcome contains."""


@dataclass(frozen=True)
class Outcome:
    """Result of a case.

    exit_code: None if the input could not be written, or the process crashed. engine_crashed: an
    engine crashed over a damaged graph with valid hashes. crashed_silently: the process crashed
    over such a graph without a report of the call.
    """

    number: int
    kind: str
    exit_code: int | None
    problems: tuple[str, ...]
    seconds: float
    description: str = ""
    stderr: str = ""
    engine_crashed: bool = False
    crashed_silently: bool = False

    @property
    def unwritable(self) -> bool:
        """Whether Arrow could not write the input."""
        return self.exit_code is None and not self.problems and not self.engine_crashed


def batch_classify(arguments: list[str]) -> None:
    """The command under test, called as by its console script."""
    from batch.cli import main

    sys.exit(main.main(arguments, prog_name="batch-classify"))


@dataclass(frozen=True)
class FuzzRun:
    """Settings of a fuzzing run that every worker needs."""

    inputs: FuzzInputs
    work: Path
    seed: int
    command: Command = batch_classify

    def log(self, worker: int, stream: str) -> Path:
        """File of an output stream of a worker. stream: `out` or `err`."""
        return self.work / f"worker-{worker}.{stream}"

    def read_log(self, worker: int, stream: str) -> str:
        """Text of an output stream of a worker; empty before its process has started."""
        path = self.log(worker, stream)
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""

    def case_folder(self, number: int) -> Path:
        """Folder of a case; not deleted if the case has problems."""
        return self.work / "cases" / str(number)


def run_worker(run: FuzzRun, worker: int, pipe: Connection) -> None:
    """Run the cases whose numbers arrive through the pipe and send their outcomes.

    Both standard streams, of native libraries too, are redirected to files.
    """
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent process handles it
    for descriptor, stream in ((1, "out"), (2, "err")):
        flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
        os.dup2(os.open(run.log(worker, stream), flags), descriptor)
    faulthandler.enable()  # writes the crashing call of a native library to stderr
    while (number := pipe.recv()) is not None:
        for descriptor in (1, 2):
            os.ftruncate(descriptor, 0)
        pipe.send(run_case(run, worker, number))


def run_case(run: FuzzRun, worker: int, number: int) -> Outcome:
    """Make, run and check a case; delete its folder if there are no problems."""
    kind, started = kind_of(number), time.monotonic()
    folder = run.case_folder(number)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        case = make_case(run.inputs, run.seed, number, folder)
    except UnwritableInputError as error:
        shutil.rmtree(folder)
        return Outcome(number, kind, None, (), time.monotonic() - started, description=str(error))
    (folder / "case.json").write_text(
        json.dumps({"arguments": case.arguments, "description": case.description})
    )
    files_before = file_facts(case.output)
    if case.process is not None and run.command is batch_classify:
        exit_code = _run_process(case.arguments, case.process, run, worker)
    else:
        exit_code = _run_command(run.command, case)
    stdout, stderr = run.read_log(worker, "out"), run.read_log(worker, "err")
    problems = find_problems(case, Finished(exit_code, stdout, stderr, files_before), run.work)
    if not problems:
        shutil.rmtree(folder)
    return Outcome(
        number,
        kind,
        exit_code,
        problems,
        time.monotonic() - started,
        case.description,
        stderr[-STDERR_CHARACTERS:],
    )


def _run_command(command: Command, case: Case) -> int:
    """Run a command in this process; returns the exit code of a console script."""
    try:
        command(list(case.arguments))
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return end.code or 0
        sys.stderr.write(f"{end.code}\n")
        return 1
    except BaseException:  # as the interpreter does with an uncaught error
        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return 0


def _run_process(
    arguments: tuple[str, ...], conditions: ProcessConditions, run: FuzzRun, worker: int
) -> int:
    """Run `batch-classify` in a separate process under `conditions`; returns its exit code."""
    with run.log(worker, "out").open("ab") as out, run.log(worker, "err").open("ab") as err:
        process = start_process(
            [COMMAND, *arguments],
            streams=conditions.streams,
            environment=conditions.environment,
            stdout=out.fileno(),
            stderr=err.fileno(),
        )
    if conditions.signal_number is not None:
        wait_for_signal_handler(process)
        with suppress(subprocess.TimeoutExpired):
            process.wait(conditions.delay_s)
        process.send_signal(conditions.signal_number)
    return process.wait()
