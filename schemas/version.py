"""Version of the layouts that this installation reads and writes."""

from __future__ import annotations

from schemas.errors import BundleError
from schemas.printable import printable

SCHEMA_VERSION = 1

MAX_SHOWN_CHARS = 300


def check_version(found: object, *, source: str) -> None:
    """Refuse a `schema_version` that this version of narrascan cannot read (BundleError)."""
    if not isinstance(found, int) or isinstance(found, bool) or found < 1:
        shown = printable(repr(found))[:MAX_SHOWN_CHARS]
        raise BundleError(f"{source}: schema_version is {shown}, expected {SCHEMA_VERSION}")
    if found > SCHEMA_VERSION:
        raise BundleError(
            f"{source}: schema_version {found} is newer than {SCHEMA_VERSION}, the newest that "
            "this installation can read",
            hint="upgrade narrascan",
        )
