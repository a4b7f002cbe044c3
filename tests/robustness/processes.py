"""Processes of `batch-classify` under bad conditions: signals, unwritable output streams."""

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
"""Bash commands that run `{command}` with both output streams unwritable."""

OTHER_PROCESSOR = {"ONEDNN_MAX_CPU_ISA": "AVX2"}
"""Environment variables that simulate another processor."""


def start_process(
    command: Sequence[str],
    *,
    streams: str | None = None,
    environment: Mapping[str, str] | None = None,
    stdout: int = subprocess.DEVNULL,
    stderr: int = subprocess.DEVNULL,
) -> subprocess.Popen[bytes]:
    """Start a command, with unwritable output streams if `streams` is a key of STREAMS."""
    arguments = list(command)
    if streams is not None:
        quoted = " ".join(f"'{argument}'" for argument in command)
        arguments = ["bash", "-c", STREAMS[streams].format(command=quoted)]
    return subprocess.Popen(
        arguments, env={**os.environ, **(environment or {})}, stdout=stdout, stderr=stderr
    )


def wait_for_signal_handler(process: subprocess.Popen[bytes]) -> None:
    """Wait until SIGTERM is handled: before that, the interpreter is still starting."""
    bit = 1 << (signal.SIGTERM - 1)
    status = Path(f"/proc/{process.pid}/status")
    while process.poll() is None:
        lines = status.read_text(encoding="ascii").splitlines()
        caught = next((line for line in lines if line.startswith("SigCgt:")), "SigCgt: 0")
        if int(caught.split()[1], 16) & bit:
            return
        time.sleep(0.002)
