"""Paths in options: local paths are accepted, URLs are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from schemas.errors import UsageError
from schemas.io.paths import expand_home, require_local

URLS = [
    "s3://bucket/x",
    "S3://bucket/x",
    " gs://bucket/x",
    "s3:/bucket/x",
    "s3://",
    "file:///tmp/x",
    "file:/tmp/x",
    "dbfs:/mnt/x",
    "abfss://c@account.dfs.core.windows.net/x",
    "hdfs://name:8020/x",
    "https://example.org/x",
    "memory://x",
    "simplecache::s3://bucket/x",
    "git+ssh://host/x",
]


@pytest.mark.parametrize("url", URLS)
def test_url_is_refused(url: str) -> None:
    """A URL of any scheme is a usage error that names the option."""
    with pytest.raises(UsageError, match=r"^--output .*URLs cannot be written to"):
        require_local(url, "--output")


@pytest.mark.parametrize(
    "text", ["x", "a/b", "/tmp/a b", "./s3:/x", "a:b", "2026-11-27T10:00", "x[v1]", "%41", "a?b"]
)
def test_local_path_is_accepted_unchanged(text: str) -> None:
    """Every other name is a path, whatever characters it has."""
    assert require_local(text, "--output") == Path(text)


@pytest.mark.parametrize("text", ["", "  ", "a\0b"])
def test_name_that_is_not_a_path_is_refused(text: str) -> None:
    """An empty name does not mean the working folder, and a path cannot contain a null byte."""
    with pytest.raises(UsageError):
        require_local(text, "--output")


def test_message_does_not_show_secrets() -> None:
    """User, password and query of a URL are not in the message."""
    with pytest.raises(UsageError) as error:
        require_local("s3://me:secret@bucket/x?X-Amz-Signature=secret", "--output")

    assert "s3://bucket/x" in str(error.value)
    assert "secret" not in str(error.value)


def test_tilde_is_the_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """`~/x` is in the home folder, even if no shell expanded it; `~x` is a name."""
    monkeypatch.setenv("HOME", "/home/reader")

    assert expand_home(Path("~/x")) == Path("/home/reader/x")
    assert expand_home(Path("~x")) == Path("~x")
    assert require_local("~/x", "--output") == Path("/home/reader/x")
