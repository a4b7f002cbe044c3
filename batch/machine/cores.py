"""How many cores this process may use, which in a container is fewer than the host has."""

from __future__ import annotations

import math
import os
from pathlib import Path

from batch.machine.cgroup import read_limits

MOST_STREAMS = 16
"""Batches that are run at the same time at most: each holds memory, and each is handed over by
Python, one after the other."""


def allowed_cores() -> int:
    """Cores that this process may run on, by its CPU affinity."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def streams_of(threads: int) -> int:
    """How many batches are run at the same time by so many threads.

    A thread that has a batch of its own waits for no other, which on two cores was a tenth faster
    than two threads for each batch (docs/adr/0010-reduced-precision.md).
    """
    return min(threads, MOST_STREAMS)


def usable_cores(root: Path = Path("/")) -> int:
    """Cores that are worth a thread each: by affinity, and by the container's quota, rounded up.

    Rounded up, because two threads under a quota of 1.5 get it all, if in turns, and one does not.
    root: where `proc` and `sys` are mounted.
    """
    quota = read_limits(root).cores
    return allowed_cores() if quota is None else max(1, min(allowed_cores(), math.ceil(quota)))
