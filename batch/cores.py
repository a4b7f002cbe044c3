"""How many cores this process may use, which in a container is fewer than the host has."""

from __future__ import annotations

import math
import os
from pathlib import Path

from batch.cgroup import read_limits


def allowed_cores() -> int:
    """Cores that this process may run on, by its CPU affinity."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def usable_cores(root: Path = Path("/")) -> int:
    """Cores that are worth a thread each: by affinity, and by the container's quota, rounded up.

    Rounded up, because two threads under a quota of 1.5 get it all, if in turns, and one does not.
    root: where `proc` and `sys` are mounted.
    """
    quota = read_limits(root).cores
    return allowed_cores() if quota is None else max(1, min(allowed_cores(), math.ceil(quota)))
