"""What a container may use: limits of Linux control groups, version 2 and version 1."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

UNLIMITED_BYTES = 1 << 60
"""Version 1 writes "no limit" as a number near 2**63."""


@dataclass(frozen=True)
class Limits:
    """What this process is held to; None where nothing holds it.

    cores: processor time a second, such as 1.5. memory_bytes: most that it may have.
    memory_free_bytes: what is left of that, with file cache counted as free.
    """

    cores: float | None
    memory_bytes: int | None
    memory_free_bytes: int | None


def read_limits(root: Path = Path("/")) -> Limits:
    """The tightest limits of this process's control group and of the groups around it.

    root: where `proc` and `sys` are mounted.
    """
    groups = _groups(root)
    cores = [found for group in groups for found in (_quota_v2(group), _quota_v1(group)) if found]
    memory = [found for group in groups if (found := _memory(group)) is not None]
    return Limits(
        cores=min(cores, default=None),
        memory_bytes=min((limit for limit, _ in memory), default=None),
        memory_free_bytes=min((left for _, left in memory), default=None),
    )


def _groups(root: Path) -> list[Path]:
    """Folders of the groups that hold this process, of every controller, innermost first."""
    mounted = root / "sys/fs/cgroup"
    groups: list[Path] = []
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, path = line.split(":", 2)
        inside = PurePosixPath(path.lstrip("/"))
        for name in controllers.split(","):  # version 2 has one hierarchy, with an empty name
            groups += [mounted / name / part for part in (inside, *inside.parents)]
    return groups


def _quota_v2(group: Path) -> float | None:
    """`cpu.max` holds microseconds and the period they are for, or "max" for the former."""
    for line in _lines(group / "cpu.max"):
        quota, period = line.split()
        return None if quota == "max" else int(quota) / int(period)
    return None


def _quota_v1(group: Path) -> float | None:
    quota, period = (_number(group / f"cpu.cfs_{name}_us") for name in ("quota", "period"))
    return quota / period if quota and period and quota > 0 else None


def _memory(group: Path) -> tuple[int, int] | None:
    """Limit of a group and what is left of it, or None where it has none."""
    limit = _number(group / "memory.max") or _number(group / "memory.limit_in_bytes")
    if limit is None or limit >= UNLIMITED_BYTES:
        return None
    used = _number(group / "memory.current") or _number(group / "memory.usage_in_bytes") or 0
    words = (line.split() for line in _lines(group / "memory.stat"))
    cache = {name: int(value) for name, value in words}
    cached = cache.get("total_inactive_file", cache.get("inactive_file", 0))
    return limit, max(0, limit - used + cached)


def _number(path: Path) -> int | None:
    for line in _lines(path):
        return int(line) if line.lstrip("-").isdigit() else None
    return None


def _lines(path: Path) -> Iterator[str]:
    """Lines of a file of the kernel; none where it is not there or may not be read."""
    try:
        yield from path.read_text(encoding="ascii").splitlines()
    except OSError:
        return
