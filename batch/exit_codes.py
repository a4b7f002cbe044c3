"""Exit codes of `batch-classify`, which a scheduler acts on; documented in docs/commands.md."""

from __future__ import annotations

FAILED, USAGE, TOO_MANY_QUARANTINED, STOPPED, LOCKED = 1, 2, 3, 4, 5
