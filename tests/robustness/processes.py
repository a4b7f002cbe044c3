"""Real processes of `batch-classify` in bad surroundings: signals, and streams that do not take
anything.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

COMMAND = str(Path(sys.executable).with_name("batch-classify"))

STREAMS = {
    "full": "exec {command} >/dev/full 2>/dev/full",
    "closed": "exec {command} >&- 2>&-",
    "without a reader": "{command} 2>&1 | true; exit ${{PIPESTATUS[0]}}",
}
"""What becomes of both standard streams, as bash spells it."""

OTHER_PROCESSOR = {"ONEDNN_MAX_CPU_ISA": "AVX2"}
"""Environment that stands in for another processor."""


def start(
    command: Sequence[str],
    *,
    streams: str | None = None,
    environment: Mapping[str, str] | None = None,
    stdout: int = subprocess.DEVNULL,
    stderr: int = subprocess.DEVNULL,
) -> subprocess.Popen[bytes]:
    """Start a command; with `streams`, a key of STREAMS, nothing that it says arrives."""
    words = list(command)
    if streams is not None:
        quoted = " ".join(f"'{word}'" for word in command)
        words = ["bash", "-c", STREAMS[streams].format(command=quoted)]
    return subprocess.Popen(
        words, env={**os.environ, **(environment or {})}, stdout=stdout, stderr=stderr
    )


def wait_until_it_listens(process: subprocess.Popen[bytes]) -> None:
    """Wait until SIGTERM is caught: before that the interpreter itself is starting."""
    bit = 1 << (signal.SIGTERM - 1)
    status = Path(f"/proc/{process.pid}/status")
    while process.poll() is None:
        lines = status.read_text(encoding="ascii").splitlines()
        caught = next((line for line in lines if line.startswith("SigCgt:")), "SigCgt: 0")
        if int(caught.split()[1], 16) & bit:
            return
        time.sleep(0.002)
