"""Entry point of `batch-classify`, which handles signals before it imports heavy modules."""

from __future__ import annotations

from batch.pipeline.stop import GRACE_S, StopSwitch
from schemas.io.streams import guard_streams


def main() -> None:
    """Run the command line; a signal or the deadline ends it within two seconds (exit code 4)."""
    guard_streams()  # first, so that no file opened later becomes a standard stream
    switch = StopSwitch(grace_s=GRACE_S)
    with switch.listening():
        from batch.cli import main as command

        command(obj=switch)


if __name__ == "__main__":
    main()
