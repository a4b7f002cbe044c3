"""Durations on the command line, such as 90s, 45m or 1h30m."""

from __future__ import annotations

import re

_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?[smhd])+|\d+(?:\.\d+)?")

MAX_DURATION_S = 1000 * 86400
"""Longer than any run, and far below the value at which timers overflow."""


def parse_duration(text: str) -> float:
    """Seconds of a duration: "90", "90s", "45m", "1h30m".

    Raises ValueError for anything else.
    """
    if not _DURATION.fullmatch(text):
        raise ValueError(f"{text!r} is not a duration; write 90s, 45m or 1h30m")
    parts = re.findall(r"(\d+(?:\.\d+)?)([smhd]?)", text)
    seconds = float(sum(float(number) * _UNITS[unit] for number, unit in parts))
    if not seconds <= MAX_DURATION_S:
        raise ValueError(f"{text[:20]!r} is more than 1000 days")
    return seconds
