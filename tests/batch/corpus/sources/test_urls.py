"""Redaction of secrets and library internals in URLs and error messages."""

from __future__ import annotations

import errno
import sys

import fsspec
import pytest
from fsspec.registry import known_implementations

from batch.corpus.sources.files import find_files
from batch.corpus.sources.urls import library_errors, plain_reason, redacted, without_secrets
from schemas.errors import CorpusError, StoppedError


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://host/a.parquet?X-Amz-Signature=abc#x", "https://host/a.parquet"),
        ("https://host/a.parquet?sv=1&sig=a/b", "https://host/a.parquet"),
        ("https://user:pass@host:80/a.parquet", "https://host:80/a.parquet"),
        ("https://token@host/a.parquet", "https://host/a.parquet"),
        ("ftp://user:p/ss@w@host/a.parquet", "ftp://host/a.parquet"),
        ("sftp://user@host:22/a@b.parquet", "sftp://host:22/a@b.parquet"),
        ("s3://bucket/a b#1.parquet", "s3://bucket/a b#1.parquet"),
        ("s3://bucket/a.parquet?versionId=xyz", "s3://bucket/a.parquet"),
        ("abfs://container@account/a.parquet", "abfs://container@account/a.parquet"),
        ("abfs://c@account/a.parquet?sv=1&sig=x", "abfs://c@account/a.parquet"),
        ("zip://a.parquet::https://u:p@h/x.zip?sig=1", "zip://a.parquet::https://h/x.zip"),
        ("simplecache::https://u:p@h/x?sig=1", "simplecache::https://h/x"),
        ("/data/a?b=c#d.parquet", "/data/a?b=c#d.parquet"),
        ("file:///data/a?b=c.parquet", "file:///data/a?b=c.parquet"),
    ],
)
def test_user_password_query_and_fragment_are_left_out(url: str, expected: str) -> None:
    """In each URL of a chain; other parts are unchanged, so that names stay unique."""
    assert redacted(url) == expected


@pytest.mark.parametrize(
    "message",
    [
        "HTTPConnectionPool(host='host'): url: /a.parquet?X-Amz-Signature=abcdef&Expires=99999",
        "403, message='Forbidden', url='https://user:pa%40ss@host/a.parquet?X-Amz-Signature=abcdef'",
        "login of user with pa@ss failed",
        "signature abcdef has expired",
    ],
)
def test_messages_of_libraries_are_redacted(message: str) -> None:
    """They contain URLs in full, in parts, and decoded."""
    url = "https://user:pa%40ss@host/a.parquet?X-Amz-Signature=abcdef&Expires=99999"
    redacted_message = without_secrets(message, url)

    assert not any(secret in redacted_message for secret in ("abcdef", "pa@ss", "pa%40ss"))


def test_reasons_have_no_internals_of_a_library() -> None:
    """No source paths or C++ class names; errors of the system have the system's message."""
    internals = ValueError("/arrow/cpp/src/parquet/types.cc:12: Check failed: rows >= 0\nmore")

    assert plain_reason(internals) == "rows >= 0"
    assert plain_reason(OSError("TProtocolException: Invalid data")) == "Invalid data"
    assert plain_reason(MemoryError()) == "MemoryError"
    assert plain_reason(PermissionError(errno.EACCES, "x", "/secret")) == "Permission denied"


@pytest.mark.parametrize(
    ("protocol", "package"),
    [("s3", "s3fs"), ("gs", "gcsfs"), ("abfs", "adlfs"), ("lakefs", "lakefs-spec")],
)
def test_the_hint_names_the_missing_package(
    monkeypatch: pytest.MonkeyPatch, protocol: str, package: str
) -> None:
    """The package is found by the module that could not be imported."""
    module = known_implementations[protocol]["class"].split(".")[0]
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(CorpusError, match=f"needs the package {package}, which is not") as error:
        find_files([f"{protocol}://user:secret@bucket/a.parquet"])

    assert error.value.hint == f"pip install {package}"
    assert "secret" not in str(error.value)


def test_an_unknown_protocol_is_reported_with_the_nearest_name() -> None:
    """A typing error in a scheme is not reported as a missing package."""
    with pytest.raises(CorpusError, match="unknown protocol 's33'") as error:
        find_files(["s33://bucket/a.parquet"])

    assert error.value.hint == "did you mean 's3'?"


def test_errors_of_stores_become_corpus_errors() -> None:
    """Errors of any class are converted; our own are not changed."""

    class StoreError(Exception):
        """An error with a class of its own, as in botocore and paramiko."""

    url = "s3://bucket/a.parquet?versionId=secret"
    with (
        pytest.raises(CorpusError, match=r"s3://bucket/a.parquet: cannot be listed: no \*\*\*"),
        library_errors(url, "cannot be listed"),
    ):
        raise StoreError("no secret")
    with pytest.raises(StoppedError), library_errors(url, "cannot be listed"):
        raise StoppedError("stopped")


def test_inputs_with_the_same_redacted_name_are_refused() -> None:
    """Two versions of one key cannot both be `s3://bucket/a.parquet` in the predictions."""
    store = fsspec.filesystem("memory")
    for version in "12":
        store.pipe(f"/a.parquet?v={version}", b"PAR1")
    try:
        with pytest.raises(CorpusError, match="two different files have this name"):
            find_files([f"memory://a.parquet?v={version}" for version in "12"])
    finally:
        for version in "12":
            store.rm(f"/a.parquet?v={version}")
