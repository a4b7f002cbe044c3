"""Worker processes of the fuzzer, which survive crashes and hangs of the command under test."""

from __future__ import annotations

import json
import multiprocessing
import re
import signal
import time
from collections.abc import Generator, Iterable
from dataclasses import dataclass, field
from itertools import chain
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess

from tests.robustness.fuzz.cases.kinds import kind_of
from tests.robustness.fuzz.run_case import STDERR_CHARACTERS, FuzzRun, Outcome, run_worker

TIMEOUT_S = 60.0
"""Seconds that a case may take; an ordinary one takes 0.2."""
UNVERIFIABLE_KINDS = ("bundle bytes", "bundle graph")
"""Kinds with a damaged graph whose hashes are valid."""
ENGINE_CRASH = re.compile(
    r"Current thread .*\n(  <no Python frame>|  File \".*"
    r"(/onnxruntime/|/openvino/|batch/engines/(onnxruntime|openvino|buffers)\.py))"
)
"""Report of faulthandler with an engine as the innermost call, or in a thread of the engine."""
_SPAWN = multiprocessing.get_context("spawn")  # a forked process would share locks of libraries


@dataclass
class _Worker:
    """A process that runs cases. number: of the running case, started at time `started`."""

    run: FuzzRun
    index: int
    number: int | None = None
    started: float = 0.0
    process: SpawnProcess = field(init=False)
    pipe: Connection = field(init=False)

    def __post_init__(self) -> None:
        self.pipe, child_pipe = _SPAWN.Pipe()
        self.process = _SPAWN.Process(target=run_worker, args=(self.run, self.index, child_pipe))
        self.process.start()
        child_pipe.close()

    def start_case(self, number: int) -> None:
        self.number, self.started = number, time.monotonic()
        self.pipe.send(number)

    def poll(self, ready: bool, timeout_s: float) -> Outcome | None:
        """The outcome of the case, or None while it is running; kills one that takes too long."""
        if ready or not self.process.is_alive():
            outcome = self._receive() or self._crash_outcome()
        elif time.monotonic() - self.started > timeout_s:
            self.process.kill()
            self.process.join()
            outcome = self._lost_outcome(f"took longer than {timeout_s:g} s")
        else:
            return None
        self.number = None
        return outcome

    def _receive(self) -> Outcome | None:
        """None if the process crashed; one of its children may still have the pipe open."""
        try:
            outcome: Outcome | None = self.pipe.recv() if self.pipe.poll() else None
        except EOFError:
            return None
        return outcome

    def _crash_outcome(self) -> Outcome:
        self.process.join()
        code = self.process.exitcode or 0
        name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return self._lost_outcome(f"crashed its process: {name}", by_signal=code < 0)

    def _lost_outcome(self, problem: str, *, by_signal: bool = False) -> Outcome:
        """The outcome of a case whose process crashed or was killed for taking too long."""
        assert self.number is not None
        kind = kind_of(self.number)
        stderr = self.run.read_log(self.index, "err")
        case_file = self.run.case_folder(self.number) / "case.json"
        crash = by_signal and kind in UNVERIFIABLE_KINDS
        engine_crashed = crash and bool(ENGINE_CRASH.search(stderr))
        return Outcome(
            self.number,
            kind,
            exit_code=None,
            problems=() if engine_crashed else (problem,),
            seconds=time.monotonic() - self.started,
            description=(
                json.loads(case_file.read_text())["description"]
                if case_file.exists()
                else "lost while the input was written"
            ),
            stderr=stderr[-STDERR_CHARACTERS:],
            engine_crashed=engine_crashed,
            crashed_silently=crash and "Current thread" not in stderr,
        )

    def stop(self) -> None:
        """Stop the process; kill it if a case is running."""
        if self.process.is_alive():
            if self.number is None:
                self.pipe.send(None)
            else:
                self.process.kill()
        self.process.join()
        self.pipe.close()


def run_cases(
    run: FuzzRun, numbers: Iterable[int], *, jobs: int, timeout_s: float = TIMEOUT_S
) -> Generator[Outcome]:
    """Run cases in `jobs` processes; yields outcomes as they arrive. Close it to stop early.

    A case over a damaged graph that crashed without a report is run again in a new process: an
    engine that corrupts the memory of an old process may also lose the report of the crash.
    """
    queue = iter(numbers)
    retried: set[int] = set()
    workers: list[_Worker] = []
    try:
        for index in range(jobs):
            if (number := next(queue, None)) is not None:
                workers.append(_Worker(run, index))
                workers[-1].start_case(number)
        while busy := [worker for worker in workers if worker.number is not None]:
            ready = wait([worker.pipe for worker in busy], timeout=0.2)
            for worker in busy:
                outcome = worker.poll(worker.pipe in ready, timeout_s)
                if outcome is None:
                    continue
                if outcome.crashed_silently and outcome.number not in retried:
                    retried.add(outcome.number)
                    queue = chain([outcome.number], queue)
                else:
                    yield outcome
                if (number := next(queue, None)) is not None:
                    if not worker.process.is_alive():
                        workers[worker.index] = _Worker(run, worker.index)
                    workers[worker.index].start_case(number)
    finally:
        for worker in workers:
            worker.stop()
