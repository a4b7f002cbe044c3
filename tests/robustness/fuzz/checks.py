"""Checks of a finished fuzzing case: exit code, messages, output folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from schemas.io.files import FileFacts
from tests.robustness.fuzz.cases.case import Case
from tests.robustness.fuzz.mutations.folder_tree import visible_parquet_files

FINISHED = (0, 3)
"""Exit codes of a finished run."""
MIN_MESSAGE_CHARACTERS = 20
LAST_FILE = "run.json"
"""Written last by a run; its presence means that the run is finished."""


@dataclass(frozen=True)
class Finished:
    """What a case left behind. files_before: files of its output folder before the run."""

    exit_code: int
    stdout: str
    stderr: str
    files_before: Mapping[Path, FileFacts]

    @property
    def complete(self) -> bool:
        return self.exit_code in FINISHED


def file_facts(output: Path) -> dict[Path, FileFacts]:
    """Size and hash of every file below a folder."""
    return {path: FileFacts.of(path) for path in output.rglob("*") if path.is_file()}


def find_problems(case: Case, finished: Finished, work: Path) -> tuple[str, ...]:
    """Every broken promise of a case. work: folder that error messages must name a file of."""
    return (
        *_exit_code_problems(case, finished),
        *_message_problems(finished, work),
        *_output_problems(case.output, finished),
        *_left_out_problems(case, finished),
    )


def _exit_code_problems(case: Case, finished: Finished) -> Iterator[str]:
    if finished.exit_code not in case.exit_codes:
        allowed = ", ".join(map(str, sorted(case.exit_codes)))
        yield f"exit code {finished.exit_code}, expected one of {allowed}"


def _message_problems(finished: Finished, work: Path) -> Iterator[str]:
    exit_code, stderr = finished.exit_code, finished.stderr
    for sign in ("Traceback", "panicked at"):
        if sign in finished.stdout or sign in stderr:
            yield f"{sign!r} in the output"
    if exit_code in (1, 2):
        if len(stderr.strip()) < MIN_MESSAGE_CHARACTERS:
            yield f"exit code {exit_code} without a useful message: {stderr.strip()!r}"
        elif str(work) not in stderr and "--" not in stderr:
            yield f"exit code {exit_code} with a message that names no file and no option"


def _output_problems(output: Path, finished: Finished) -> Iterator[str]:
    """Incomplete and contradictory files; an unfinished run may leave old files unrepaired."""
    before = finished.files_before
    for path, facts in file_facts(output).items():
        name = path.relative_to(output).as_posix()
        changed = before.get(path) != facts
        if path.name.startswith(".") or not (changed or finished.complete):
            continue
        if name == LAST_FILE and not finished.complete:
            yield f"{name} exists and the exit code is {finished.exit_code}"
        written_by_run = (
            path.parent.name in ("predictions", "quarantine", "done") or path.parent == output
        )
        if written_by_run and changed:
            yield from _file_problems(path, name)
    record = output / LAST_FILE
    if finished.complete and record.is_file():
        yield from _record_problems(output, record)


def _file_problems(path: Path, name: str) -> Iterator[str]:
    try:
        if path.suffix == ".parquet":
            pq.read_table(path, partitioning=None)
        elif path.suffix == ".json":
            json.loads(path.read_bytes())
        elif path.suffix == ".html" and not path.read_text().rstrip().endswith("</html>"):
            yield f"{name} is truncated"
    except Exception as error:  # any error means that the file is invalid
        yield f"{name} cannot be read: {type(error).__name__}: {error}"


def _record_problems(output: Path, path: Path) -> Iterator[str]:
    """Differences between run.json and the files that it lists."""
    try:
        record = json.loads(path.read_bytes())
        counts, files = record["counts"], record["outputs"].items()
    except Exception as error:  # any error means that the file is invalid
        yield f"{LAST_FILE} cannot be read: {type(error).__name__}: {error}"
        return
    rows = {"predictions": 0, "quarantine": 0}
    for name, facts in files:
        try:
            raw = (output / name).read_bytes()
            if hashlib.sha256(raw).hexdigest() != facts["sha256"]:
                yield f"{name} does not match its hash in {LAST_FILE}"
            rows[name.partition("/")[0]] += pq.read_metadata(output / name).num_rows
        except Exception as error:  # any error means that the file is invalid
            yield f"{name} is listed in {LAST_FILE} and cannot be read: {error}"
    if counts["quarantined"] != rows["quarantine"] or counts["rows"] != sum(rows.values()):
        yield f"{LAST_FILE} counts {counts}, the files have {rows}"


def _left_out_problems(case: Case, finished: Finished) -> Iterator[str]:
    """Files of a corpus folder that were silently left out."""
    if case.corpus_folder is None or not finished.complete:
        return
    record = json.loads((case.output / LAST_FILE).read_bytes())
    reported = {*record["inputs"], *(entry["file"] for entry in record["left_out"])}
    for path in sorted(visible_parquet_files(case.corpus_folder) - reported):
        yield f"{path} is neither scored nor reported as left out"
