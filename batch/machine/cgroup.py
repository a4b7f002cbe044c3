"""Resource limits of a container: Linux control groups (cgroups), version 2 and version 1."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

UNLIMITED_BYTES = 1 << 60
"""Version 1 writes "no limit" as a number near 2**63."""


@dataclass(frozen=True)
class Limits:
    """Resource limits of this process; None where there is no limit.

    cores: processor time per second, such as 1.5. memory_bytes: maximum memory.
    memory_free_bytes: memory left below that maximum, with file cache counted as free.
    """

    cores: float | None
    memory_bytes: int | None
    memory_free_bytes: int | None


def read_limits(root: Path = Path("/")) -> Limits:
    """The tightest limits of this process's control group and of the groups around it.

    root: where `proc` and `sys` are mounted.
    """
    groups = _groups(root)
    cores = [quota for group in groups for quota in (_quota_v2(group), _quota_v1(group)) if quota]
    memory = [limit for group in groups if (limit := _memory(group)) is not None]
    return Limits(
        cores=min(cores, default=None),
        memory_bytes=min((max_bytes for max_bytes, _ in memory), default=None),
        memory_free_bytes=min((free_bytes for _, free_bytes in memory), default=None),
    )


def _groups(root: Path) -> list[Path]:
    """Folders of this process's control groups, of every controller, innermost first."""
    mount = root / "sys/fs/cgroup"
    groups: list[Path] = []
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, path = line.split(":", 2)
        innermost = PurePosixPath(path.lstrip("/"))
        for name in controllers.split(","):  # version 2 has one hierarchy, with an empty name
            groups += [mount / name / group for group in (innermost, *innermost.parents)]
    return groups


def _quota_v2(group: Path) -> float | None:
    """Cores by `cpu.max`: a quota in microseconds, or "max" for no limit, and its period."""
    for line in _lines(group / "cpu.max"):
        quota, period = line.split()
        return None if quota == "max" else int(quota) / int(period)
    return None


def _quota_v1(group: Path) -> float | None:
    quota, period = (_number(group / f"cpu.cfs_{name}_us") for name in ("quota", "period"))
    return quota / period if quota and period and quota > 0 else None


def _memory(group: Path) -> tuple[int, int] | None:
    """Memory limit of a group and the bytes left below it; None without a limit."""
    limit = _number(group / "memory.max") or _number(group / "memory.limit_in_bytes")
    if limit is None or limit >= UNLIMITED_BYTES:
        return None
    used = _number(group / "memory.current") or _number(group / "memory.usage_in_bytes") or 0
    fields = (line.split() for line in _lines(group / "memory.stat"))
    stats = {name: int(value) for name, value in fields}
    cached = stats.get("total_inactive_file", stats.get("inactive_file", 0))
    return limit, max(0, limit - used + cached)


def _number(path: Path) -> int | None:
    for line in _lines(path):
        return int(line) if line.lstrip("-").isdigit() else None
    return None


def _lines(path: Path) -> Iterator[str]:
    """Lines of a kernel file; none if it does not exist or is not readable."""
    try:
        yield from path.read_text(encoding="ascii").splitlines()
    except OSError:
        return
