"""Runs one case of the fuzzing in this process and looks at what it left behind."""

from __future__ import annotations

import faulthandler
import hashlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import pyarrow.parquet as pq

from schemas.io.files import FileFacts
from tests.robustness.fuzz.kinds import Case, Ground, NotMadeError, kind_of, make_case
from tests.robustness.fuzz.surroundings import Surroundings, reachable_files
from tests.robustness.processes import COMMAND, start, wait_until_it_listens

Command = Callable[[list[str]], None]
"""Takes the words of a command line and ends as a console script does, with SystemExit."""

FINISHED = (0, 3)
MEMORY_BYTES = 4 * 2**30
"""Address space of a worker, about twice of what an ordinary run takes."""
LEAST_MESSAGE = 20
"""Characters of an error message at least."""
LAST_FILE = "run.json"


@dataclass(frozen=True)
class Outcome:
    """How a case ended.

    exit_code: None if it could not be made, or its process was lost. said: the end of stderr.
    engine_fell: an engine took the process down over a graph that nobody vouches for.
    fell_silently: the process went down over such a graph, and nothing tells where.
    """

    number: int
    kind: str
    exit_code: int | None
    problems: tuple[str, ...]
    seconds: float
    story: str = ""
    said: str = ""
    engine_fell: bool = False
    fell_silently: bool = False


def batch_classify(words: list[str]) -> None:
    """The command itself, as its console script calls it."""
    from batch.cli import main

    sys.exit(main.main(words, prog_name="batch-classify"))


@dataclass(frozen=True)
class Bench:
    """What a worker needs: where things are, and the seed."""

    ground: Ground
    work: Path
    seed: int
    command: Command = batch_classify

    def log(self, worker: int, name: str) -> Path:
        """Where the output of a worker goes; name: `out` or `err`."""
        return self.work / f"worker-{worker}.{name}"

    def case_folder(self, number: int) -> Path:
        """The folder of a case; it stays if the case is a finding."""
        return self.work / "cases" / str(number)


def work(bench: Bench, worker: int, pipe: Connection) -> None:
    """Run the cases whose numbers come through the pipe, one after the other, and send outcomes.

    Everything that is written to the two standard streams, by native libraries too, goes to files.
    """
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    for descriptor, name in ((1, "out"), (2, "err")):
        file = os.open(bench.log(worker, name), os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
        os.dup2(file, descriptor)
    faulthandler.enable()  # tells on the second where a native library fell
    while (number := pipe.recv()) is not None:
        for descriptor in (1, 2):
            os.ftruncate(descriptor, 0)
        pipe.send(run_case(bench, worker, number))


def run_case(bench: Bench, worker: int, number: int) -> Outcome:
    """Make a case, run it, check it, and clear it away if there is nothing to find."""
    kind, clock = kind_of(number), time.monotonic()
    folder = bench.case_folder(number)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        case = make_case(bench.ground, bench.seed, number, folder)
    except NotMadeError as error:
        shutil.rmtree(folder)
        return Outcome(number, kind, None, (), time.monotonic() - clock, story=str(error))
    (folder / "case.json").write_text(json.dumps({"words": case.words, "story": case.story}))
    before = _facts(case.output)
    if case.surroundings is not None and bench.command is batch_classify:
        exit_code = _run_process(case.words, case.surroundings, bench, worker)
    else:
        exit_code = _run(bench.command, case)
    said = bench.log(worker, "err").read_text(encoding="utf-8", errors="replace")
    shown = bench.log(worker, "out").read_text(encoding="utf-8", errors="replace")
    problems = [
        *_problems_of_exit(case, exit_code),
        *_problems_of_text(exit_code, shown, said, bench.work),
        *_problems_of_files(case.output, exit_code, before),
        *_problems_of_tree(case, exit_code),
    ]
    if not problems:
        shutil.rmtree(folder)
    seconds = time.monotonic() - clock
    return Outcome(number, kind, exit_code, tuple(problems), seconds, case.story, said[-3000:])


def _run(command: Command, case: Case) -> int:
    """The exit code that a console script would have."""
    try:
        command(list(case.words))
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return end.code or 0
        sys.stderr.write(f"{end.code}\n")
        return 1
    except BaseException:  # what the interpreter does with an error that nobody caught
        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return 0


def _run_process(
    words: tuple[str, ...], surroundings: Surroundings, bench: Bench, worker: int
) -> int:
    """The exit code of a real process, disturbed as `surroundings` say."""
    with bench.log(worker, "out").open("ab") as out, bench.log(worker, "err").open("ab") as err:
        process = start(
            [COMMAND, *words],
            streams=surroundings.streams,
            environment=surroundings.environment,
            stdout=out.fileno(),
            stderr=err.fileno(),
        )
    if surroundings.signal_number is not None:
        wait_until_it_listens(process)
        with suppress(subprocess.TimeoutExpired):
            process.wait(surroundings.delay_s)
        process.send_signal(surroundings.signal_number)
    return process.wait()


def _problems_of_tree(case: Case, exit_code: int) -> Iterator[str]:
    """Files of a corpus folder that were left out without a word."""
    if case.tree is None or exit_code not in FINISHED:
        return
    record = json.loads((case.output / LAST_FILE).read_bytes())
    named = {*record["inputs"], *(entry["file"] for entry in record["left_out"])}
    for path in sorted(reachable_files(case.tree) - named):
        yield f"{path} is neither scored nor named as left out"


def _problems_of_exit(case: Case, exit_code: int) -> Iterator[str]:
    if exit_code not in case.allowed:
        right = ", ".join(map(str, sorted(case.allowed)))
        yield f"exit code {exit_code}, expected one of {right}"


def _problems_of_text(exit_code: int, shown: str, said: str, folder: Path) -> Iterator[str]:
    for sign in ("Traceback", "panicked at"):
        if sign in shown or sign in said:
            yield f"{sign!r} on the screen"
    if exit_code in (1, 2):
        if len(said.strip()) < LEAST_MESSAGE:
            yield f"exit code {exit_code} with hardly a message: {said.strip()!r}"
        elif str(folder) not in said and "--" not in said:
            yield f"exit code {exit_code} with a message that names no file and no option"


def _facts(output: Path) -> dict[Path, FileFacts]:
    """Every file below a folder."""
    return {path: FileFacts.of(path) for path in output.rglob("*") if path.is_file()}


def _problems_of_files(
    output: Path, exit_code: int, before: dict[Path, FileFacts]
) -> Iterator[str]:
    """What is half-written or contradicts itself.

    before: files that were there already; where the run did not finish, it need not have mended
    what it did not touch.
    """
    finished = exit_code in FINISHED
    for path, facts in _facts(output).items():
        name = path.relative_to(output).as_posix()
        if path.name.startswith(".") or (before.get(path) == facts and not finished):
            continue
        if name == LAST_FILE and not finished:
            yield f"{name} is there and the exit code is {exit_code}"
        ours = path.parent.name in ("predictions", "quarantine", "done") or path.parent == output
        if ours and before.get(path) != facts:
            yield from _problems_of_file(path, name)
    record = output / LAST_FILE
    if finished and record.is_file():
        yield from _problems_of_record(output, record)


def _problems_of_file(path: Path, name: str) -> Iterator[str]:
    try:
        if path.suffix == ".parquet":
            pq.read_table(path, partitioning=None)
        elif path.suffix == ".json":
            json.loads(path.read_bytes())
        elif path.suffix == ".html" and not path.read_text().rstrip().endswith("</html>"):
            yield f"{name} is cut short"
    except Exception as error:  # whatever it is, it cannot be read
        yield f"{name} cannot be read: {type(error).__name__}: {error}"


def _problems_of_record(output: Path, path: Path) -> Iterator[str]:
    """run.json against the files that it lists."""
    try:
        record = json.loads(path.read_bytes())
        counts, listed = record["counts"], record["outputs"].items()
    except Exception as error:  # whatever it is, it cannot be read
        yield f"run.json cannot be read: {type(error).__name__}: {error}"
        return
    rows = {"predictions": 0, "quarantine": 0}
    for name, facts in listed:
        try:
            raw = (output / name).read_bytes()
            if hashlib.sha256(raw).hexdigest() != facts["sha256"]:
                yield f"{name} is not what run.json says"
            rows[name.partition("/")[0]] += pq.read_metadata(output / name).num_rows
        except Exception as error:  # whatever it is, it cannot be read
            yield f"{name} is in run.json and cannot be read: {error}"
    if counts["quarantined"] != rows["quarantine"] or counts["rows"] != sum(rows.values()):
        yield f"run.json counts {counts}, the files hold {rows}"
