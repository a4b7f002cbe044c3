"""URLs of corpus entries: names and messages without secrets and without library internals."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote

from fsspec import AbstractFileSystem
from fsspec.implementations.local import LocalFileSystem
from fsspec.registry import available_protocols, registry

from schemas.errors import CorpusError, NarrascanError, nearest
from schemas.printable import printable

CHAIN = "::"
"""Separator of the URLs of a chain: `zip://a.parquet::https://host/x.zip`."""
WEB = frozenset({"http", "https", "sync-http", "sync-https", "webdav", "webhdfs"})
"""Schemes in which `?` and `#` always begin a query and a fragment; other keys may contain them."""
ACCOUNT_AFTER_AT = frozenset({"abfs", "abfss", "wasb", "wasbs"})
"""Schemes with `container@account`, in which `@` alone does not indicate a user."""
PACKAGES = {
    "fsspec_xrootd": "fsspec-xrootd",
    "gdrive_fsspec": "gdrive-fsspec",
    "lakefs_spec": "lakefs-spec",
    "libarchive": "libarchive-c",
    "smbclient": "smbprotocol",
    "tosfs": "tosfs",
    "yarl": "aiohttp",
}
"""Packages by the name of their module, where the two names differ."""
MIN_SECRET_CHARS = 4
QUERY = re.compile(r"[?#][A-Za-z0-9_.~%-]+=")
INTERNALS = re.compile(
    r"[\w./-]+\.(?:cc|cpp|h|hh|cxx):\d+:?|Check failed:?|\bT?[A-Z]\w*Exception:?|\b\w+::\w+[\w:]*"
)


def redacted(url: str) -> str:
    """A URL or a chain without user, password, query and fragment; paths are unchanged."""
    return CHAIN.join(_redacted_link(link) for link in url.split(CHAIN))


def label_of(url: str) -> str:
    """Name of a corpus entry in messages."""
    return printable(redacted(url))


def without_secrets(text: str, url: str) -> str:
    """A library's message about `url`, with its secrets replaced by `***`."""
    for secret in sorted(_secrets(url), key=len, reverse=True):
        text = text.replace(secret, "***")
    return re.sub(r"\w[\w+.-]*://[^\s'\"<>)]+", lambda match: redacted(match[0]), text)


def plain_reason(error: BaseException, url: str = "") -> str:
    """First line of a library's message, without secrets, source file names or class names.

    An error of the operating system has the system's own message.
    """
    if isinstance(error, OSError) and error.errno and error.errno in errno.errorcode:
        return os.strerror(error.errno)
    lines = str(error).strip().splitlines()
    text = INTERNALS.sub("", without_secrets(lines[0], url) if lines else "")
    text = re.sub(r"\s{2,}", " ", text).strip(" :;,")
    return printable(text) or type(error).__name__


@contextmanager
def library_errors(url: str, what: str, label: str = "") -> Iterator[None]:
    """Turn any error of a storage library into a CorpusError: "label: what: reason".

    url: the argument of the library, secrets included. label: by default `url` without secrets.

    Stores raise errors of their own classes (botocore, paramiko, zipfile), hence every Exception.
    """
    try:
        yield
    except (NarrascanError, MemoryError):
        raise
    except ImportError as error:
        raise _missing_package(url, error) from error
    except Exception as error:
        cause = error.__cause__ or error  # fsspec's HTTP raises "not found" for every failure
        raise CorpusError(
            f"{label or label_of(url)}: {what}: {plain_reason(cause, url)}", hint=_hint(error)
        ) from error


def is_local(filesystem: AbstractFileSystem) -> bool:
    """True for plain local files, but not for a file system class that wraps them."""
    return type(filesystem) is LocalFileSystem


def source_name(entry: str, path: str, filesystem: AbstractFileSystem) -> str:
    """Name in predictions of the file at `path` in `filesystem`.

    A URL has no secrets. A chain is complete, because `zip://a.parquet` alone does not identify the
    archive. A local path is relative if the entry is.
    """
    if is_local(filesystem):
        if "://" in entry:
            return str(filesystem.unstrip_protocol(path))
        return path if os.path.isabs(entry) else Path(os.path.relpath(path)).as_posix()  # noqa: PTH117
    first, *rest = entry.split(CHAIN)
    scheme, colon, _ = first.partition("://")
    url = str(filesystem.unstrip_protocol(path))
    if not rest:
        return redacted(url)
    bare = url.partition("://")[2] or url
    if colon:
        return redacted(CHAIN.join([f"{scheme}://{bare}", *rest]))
    inner, *rest = rest  # the URL of a cache in front of a store has no path
    scheme, colon, _ = inner.partition("://")
    return redacted(CHAIN.join([first, f"{scheme}://{bare}" if colon else bare, *rest]))


def check_protocols(url: str) -> None:
    """Check that every scheme of a URL is known. Raises CorpusError with the nearest one."""
    protocols = {*available_protocols(), *registry}
    for link in url.split(CHAIN):
        scheme, colon, _ = link.partition("://")
        if colon and scheme not in protocols:
            close = nearest(scheme, protocols)
            raise CorpusError(
                f"{label_of(url)}: unknown protocol {printable(scheme)!r}",
                hint=f"did you mean {close!r}?" if close else "is it a path? then drop the ://",
            )


def _redacted_link(link: str) -> str:
    scheme, colon, rest = link.partition("://")
    if not colon:
        return link
    if scheme in ("file", "local"):
        return link
    rest = _without_user(scheme, rest)
    ends = [rest.find(mark) for mark in "?#" if mark in rest] if scheme in WEB else []
    if query := QUERY.search(rest):
        ends.append(query.start())
    return f"{scheme}://{rest[: min(ends)] if ends else rest}"


def _without_user(scheme: str, rest: str) -> str:
    """The URL after `scheme://`, without `user:password@`; a password may contain `/` and `@`."""
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    if "@" in authority:
        user, _, host = authority.rpartition("@")
        if scheme in ACCOUNT_AFTER_AT and ":" not in user:
            return rest
        return host + rest[len(authority) :]
    _, colon, port = authority.partition(":")
    if colon and "@" in rest and not port.isdigit():
        return rest.rpartition("@")[2]
    return rest


def _secrets(url: str) -> set[str]:
    """The parts of a URL that `redacted` removes, as written and decoded."""
    parts: set[str] = set()
    for link in url.split(CHAIN):
        scheme, colon, rest = link.partition("://")
        if not colon or scheme in ("file", "local"):
            continue
        bare = _without_user(scheme, rest)
        user = rest[: len(rest) - len(bare)].rstrip("@")
        query = rest[len(rest) - len(bare) :][len(_redacted_link(f"{scheme}://{bare}")) :]
        tail = bare[len(_redacted_link(link).partition("://")[2]) :]
        parts |= {user, *user.split(":", 1), query, tail, tail.lstrip("?#")}
        parts |= {pair.partition("=")[2] for pair in re.split(r"[?#&]", tail)}
    parts |= {unquote(part) for part in parts}
    return {part for part in parts if len(part) >= MIN_SECRET_CHARS}


def _missing_package(url: str, error: ImportError) -> CorpusError:
    """The error for a missing package, named by the module that could not be imported."""
    cause = error.__cause__ if isinstance(error.__cause__, ImportError) else error
    module = (cause.name or "").partition(".")[0]
    package = PACKAGES.get(module, module.replace("_", "-"))
    scheme = url.partition("://")[0]
    if not module:
        return CorpusError(
            f"{label_of(url)}: the package for {scheme}:// cannot be imported: "
            f"{plain_reason(cause, url)}",
            hint="reinstall that package",
        )
    return CorpusError(
        f"{label_of(url)}: {scheme}:// needs the package {package}, which is not installed",
        hint=f"pip install {package}",
    )


def _hint(error: Exception) -> str:
    if isinstance(error, PermissionError):
        return "grant read permission, or score as a user who has it"
    return "check the name, the network and the credentials"
