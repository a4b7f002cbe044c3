"""Cases that run as separate processes: signals, unwritable streams, another processor."""

from __future__ import annotations

import signal
from dataclasses import dataclass, field
from random import Random

from tests.robustness.processes import OTHER_PROCESSOR, STREAMS


@dataclass(frozen=True)
class ProcessConditions:
    """Conditions under which the process of a case runs.

    streams: key of `processes.STREAMS`; None writes both streams to files. signal_number: sent
    `delay_s` seconds after the process has installed its signal handler.
    """

    environment: dict[str, str] = field(default_factory=dict)
    streams: str | None = None
    signal_number: signal.Signals | None = None
    delay_s: float = 0.0


def random_signal(rng: Random) -> ProcessConditions:
    """SIGTERM or SIGINT at any stage of a run of about two seconds."""
    number = rng.choice((signal.SIGTERM, signal.SIGINT))
    return ProcessConditions(signal_number=number, delay_s=rng.uniform(0.0, 2.5))


def unwritable_streams(rng: Random) -> ProcessConditions:
    """Output streams that are full, closed or without a reader."""
    return ProcessConditions(streams=rng.choice(sorted(STREAMS)))


def other_processor() -> ProcessConditions:
    """A simulated processor of another machine."""
    return ProcessConditions(environment=dict(OTHER_PROCESSOR))
