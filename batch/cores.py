"""How many cores this process may use: by CPU affinity, and by the container's quota."""

from __future__ import annotations

import math
import os
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")


def usable_cores(cgroup: Path = CGROUP) -> int:
    """Cores that threads can run on at once, at least 1.

    A container with a quota of 1.5 cores on a machine of 64 sees all 64: as many threads would be
    stopped most of the time.
    """
    own = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota(cgroup)
    return own if quota is None else max(1, min(own, math.ceil(quota)))


def _quota(cgroup: Path) -> float | None:
    """Cores that the container may use, or None where nothing limits it."""
    # cgroup v2 has "150000 100000" or "max 100000" in one file; v1 two files, -1 for no limit.
    words = _words(cgroup / "cpu.max") or [
        *_words(cgroup / "cpu" / "cpu.cfs_quota_us"),
        *_words(cgroup / "cpu" / "cpu.cfs_period_us"),
    ]
    if len(words) != 2 or not words[0].isdecimal():
        return None
    quota, period = map(int, words)
    return quota / period


def _words(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="ascii").split()
    except OSError:
        return []
