"""Exit codes of `batch-classify`, for schedulers; documented in docs/commands.md."""

from __future__ import annotations

FAILED, USAGE, TOO_MANY_QUARANTINED, STOPPED, LOCKED = 1, 2, 3, 4, 5
