"""Parsing of JSON from files that may be damaged or hostile."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

MAX_DEPTH = 50
"""Maximum nesting of lists and objects; files of this project have fewer than ten levels."""


def parse_json(raw: str | bytes) -> Any:
    """Parse JSON.

    Raises ValueError if it is not JSON, or nested so deeply that code which walks the value would
    reach Python's recursion limit.
    """
    too_deep = f"nested more than {MAX_DEPTH} levels deep"
    try:
        value = json.loads(raw)
    except RecursionError as error:
        raise ValueError(too_deep) from error
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [child for parent in level for child in _containers(parent)]
        if not level:
            return value
    raise ValueError(too_deep)


def _containers(parent: object) -> Iterator[object]:
    """The lists and objects that are direct members of a list or object."""
    if isinstance(parent, dict):
        parent = list(parent.values())
    if isinstance(parent, list):
        yield from (child for child in parent if isinstance(child, dict | list))
