"""Names of bounded length, such as those of domains, labels and reference texts."""

from __future__ import annotations

import hashlib
import re

MOST_NAME_CHARACTERS = 200
"""A longer name is cut to CUT_CHARACTERS and ends in a hash of the whole."""

CUT_CHARACTERS = 160

_CUT_NAME = re.compile(r".*…#[0-9a-f]{16}", re.DOTALL)


def short_name(name: str) -> str:
    """A name as it is; a long one cut, with a hash of the whole at its end."""
    if len(name) <= MOST_NAME_CHARACTERS and not _CUT_NAME.fullmatch(name):
        return name
    return hashed_name(name)


def hashed_name(name: str) -> str:
    """The beginning of a name, and a hash of the whole."""
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{name[:CUT_CHARACTERS]}…#{digest[:16]}"
