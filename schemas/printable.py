"""Text from outside (file names, labels, columns) as it may stand in a message or a log line."""

from __future__ import annotations

import unicodedata

ESCAPED_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Unicode general categories that a terminal may act on or that nobody can see: controls, format
characters (text direction among them), surrogates, unassigned characters, line separators."""


def printable(text: str) -> str:
    """Text on one line, with every character that a terminal could act on written as an escape.

    A line break becomes `\\n`, an escape sequence starts with `\\x1b`, so that neither can forge a
    log line. Letters of every alphabet stay as they are.
    """
    if text.isprintable():  # nearly every text, and many times faster
        return text
    return "".join(map(_escaped, text))


def one_line(error: Exception) -> str:
    """An error of a library as it may stand in a message: printable, its lines joined."""
    return printable(" ".join(str(error).split()))


def _escaped(character: str) -> str:
    if unicodedata.category(character) not in ESCAPED_CATEGORIES:
        return character
    return character.encode("unicode_escape").decode("ascii")
