"""Lock files: mutual exclusion, and the files that are left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from schemas.errors import LockedError, OutputError
from schemas.io.lock import lock_beside, lock_inside, locked_by

Lock = Callable[[Path, str], AbstractContextManager[None]]
LOCKS = [lock_inside, lock_beside]

HOLD = """
import sys, time
from pathlib import Path
from schemas.io import lock
with getattr(lock, sys.argv[1])(Path(sys.argv[2]), "training"):
    print("locked", flush=True)
    time.sleep(600)
"""


@contextmanager
def another_process(lock: Lock, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that has the lock until it is killed."""
    words = [sys.executable, "-c", HOLD, lock.__name__, str(folder)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "locked\n"
        yield process
        process.kill()


def write_and_fail(folder: Path) -> None:
    """A run that is stopped after its first file."""
    (folder / "weights").touch()
    raise OSError("none")


@pytest.mark.parametrize("lock", LOCKS)
def test_second_process_is_refused(lock: Lock, tmp_path: Path) -> None:
    """The error names the process that has the lock."""
    folder = tmp_path / "out"
    with (
        another_process(lock, folder) as process,
        pytest.raises(LockedError, match=rf"training, process {process.pid} on "),
        lock(folder, "training"),
    ):
        pass


@pytest.mark.parametrize("lock", LOCKS)
def test_lock_of_a_killed_process_does_not_block(lock: Lock, tmp_path: Path) -> None:
    """The operating system releases the lock."""
    folder = tmp_path / "out"
    with another_process(lock, folder) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
        with lock(folder, "export"):
            pass


@pytest.mark.parametrize("lock", LOCKS)
def test_lock_is_released_at_the_end(lock: Lock, tmp_path: Path) -> None:
    """Even after an error; it can be locked again, and an unused folder is removed."""
    folder = tmp_path / "out"
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), lock(folder, "training"):
            _ = 1 / 0

    assert list(tmp_path.iterdir()) == []


def test_lock_inside_records_the_kind_of_a_stopped_run(tmp_path: Path) -> None:
    """The file stays if a run that began in an empty folder was stopped. It is removed if the run
    is finished or began in another folder, and a foreign file of that name records nothing.
    """
    for name in ("stopped", "older"):
        (tmp_path / "older").mkdir(exist_ok=True)
        (tmp_path / "older" / "weights").touch()
        with pytest.raises(OSError, match="none"), lock_inside(tmp_path / name, "training"):
            write_and_fail(tmp_path / name)
    with lock_inside(tmp_path / "done", "training"):
        (tmp_path / "done" / "weights").touch()
    (tmp_path / "foreign").write_text('["what"]')

    assert locked_by(tmp_path / "stopped" / ".lock") == "training"
    assert not (tmp_path / "older" / ".lock").exists()
    assert not (tmp_path / "done" / ".lock").exists()
    assert locked_by(tmp_path / "foreign") is None


@pytest.mark.parametrize("lock", LOCKS)
def test_folder_that_cannot_be_created_is_an_output_error(lock: Lock, tmp_path: Path) -> None:
    """The message names a file that is in the way."""
    (tmp_path / "file").touch()

    with (
        pytest.raises(OutputError, match="cannot be written to"),
        lock(tmp_path / "file" / "sub" / "out", "training"),
    ):
        pass


def test_many_processes_lock_in_turn(tmp_path: Path) -> None:
    """A lock file that is being removed is never locked by two processes."""
    code = (
        "import sys, os\nfrom pathlib import Path\n"
        "from schemas.errors import LockedError\nfrom schemas.io.lock import lock_beside\n"
        "top = Path(sys.argv[1])\n"
        "taken = 0\n"
        "while taken < 200:\n"
        "    try:\n"
        "        with lock_beside(top / 'out', 'x'):\n"
        "            os.close(os.open(top / 'alone', os.O_CREAT | os.O_EXCL))\n"
        "            (top / 'alone').unlink()\n"
        "            taken += 1\n"
        "    except LockedError:\n"
        "        pass\n"
    )
    begun = time.monotonic()
    processes = [subprocess.Popen([sys.executable, "-c", code, tmp_path]) for _ in range(3)]

    assert [process.wait(timeout=120) for process in processes] == [0, 0, 0], begun
    assert os.listdir(tmp_path) == []  # noqa: PTH208
