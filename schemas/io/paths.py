"""Paths that a user names: URLs are recognized, and `~` is expanded to the home folder."""

from __future__ import annotations

import re
from pathlib import Path

from schemas.errors import UsageError
from schemas.printable import printable

_URL = re.compile(r"\s*([A-Za-z][A-Za-z0-9+.-]*)(?:::|:/)")
"""`s3://bucket`, `dbfs:/mnt`, `s3:/bucket` (a typing error) and fsspec's `simplecache::s3://`."""

_SECRETS = re.compile(r"(?<=:/)/[^/]*@|\?.*", re.DOTALL)
"""User and password before the host, and a query, which may contain a signature."""


def require_local(text: str, option: str) -> Path:
    """Local path that an option names, to be written to.

    option: its name on the command line, such as `--output`, for the message.
    Raises UsageError for a URL of any scheme, `file://` included, for an empty name, and for one
    with a null byte.
    """
    if not text.strip():
        raise UsageError(
            f"{option}: an empty name is not a path", hint="is a shell variable unset?"
        )
    if "\0" in text:
        raise UsageError(f"{option} {printable(text)!r}: a path cannot contain a null byte")
    url = _URL.match(text)
    if url is not None:
        raise UsageError(
            f"{option} '{_shown(text)}': {url[1]} URLs cannot be written to",
            hint="name a local folder, and copy it when the command has ended"
            if url[1].lower() != "file"
            else "name the path without file://",
        )
    return expand_home(Path(text))


def is_url(text: str) -> bool:
    """True for text that begins with a URL scheme, `file://` included."""
    return _URL.match(text) is not None


def expand_home(path: Path) -> Path:
    """The path with a leading `~/` replaced by the home folder, as in a shell."""
    return path.expanduser() if path.parts[:1] == ("~",) else path


def _shown(url: str) -> str:
    return printable(_SECRETS.sub(lambda match: "/" if match[0].startswith("/") else "", url))
