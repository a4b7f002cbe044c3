"""Escaping of untrusted text in messages."""

from __future__ import annotations

import pytest

from schemas.printable import printable


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("économie 新聞 ☃", "économie 新聞 ☃"),
        ("a\nError: forged", "a\\nError: forged"),
        ("\x1b[2Jgone", "\\x1b[2Jgone"),
        ("tab\there", "tab\\there"),
        ("evil\u202egnp.exe", "evil\\u202egnp.exe"),
        ("line\u2028break", "line\\u2028break"),
        ("half\udc80", "half\\udc80"),
    ],
)
def test_control_characters_are_escaped(raw: str, shown: str) -> None:
    """An untrusted name stays on its line and cannot send escape sequences."""
    assert printable(raw) == shown
