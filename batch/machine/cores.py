"""Number of cores that this process may use; in a container, fewer than the host has."""

from __future__ import annotations

import math
import os
from pathlib import Path

from batch.machine.cgroup import read_limits

MAX_STREAMS = 16
"""Maximum number of batches run at the same time: each takes memory, and Python submits them one
after the other."""


def allowed_cores() -> int:
    """Cores that this process may run on, by its CPU affinity."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def streams_of(threads: int) -> int:
    """Number of batches that so many threads run at the same time.

    A thread that runs a batch alone never waits for another thread. On two cores this was a tenth
    faster than two threads per batch (docs/adr/0010-reduced-precision.md).
    """
    return min(threads, MAX_STREAMS)


def usable_cores(root: Path = Path("/")) -> int:
    """Number of threads to start: cores by affinity, at most the container's quota rounded up.

    Rounded up, because two threads can use a quota of 1.5 cores fully and one thread cannot.
    root: where `proc` and `sys` are mounted.
    """
    quota = read_limits(root).cores
    return allowed_cores() if quota is None else max(1, min(allowed_cores(), math.ceil(quota)))
