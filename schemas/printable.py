"""Escaping of untrusted text (file names, labels, columns) for messages and log lines."""

from __future__ import annotations

import json
import unicodedata

ESCAPED_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Unicode general categories that a terminal interprets or that are invisible: controls, format
characters (text direction among them), surrogates, private use and unassigned characters, line and
paragraph separators."""

INDENT = "  "


def printable(text: str) -> str:
    """Text on one line, with every character that a terminal could interpret escaped.

    A line break becomes `\\n`, an escape sequence starts with `\\x1b`, so that neither can forge a
    log line. Letters of every alphabet stay as they are.
    """
    return text if text.isprintable() else "".join(map(_escaped, text))


def printable_lines(text: str) -> str:
    """A message of several lines, each printable, and all but the first indented.

    So untrusted text cannot forge a log line with a line break.
    """
    first, *rest = text.split("\n")
    return "\n".join([printable(first), *map(_continuation, rest)])


def message_text(message: str, hint: str | None = None) -> str:
    """A message in printable lines, and the hint on a line that starts with "hint:".

    Only this function writes such a line, so that untrusted text cannot forge one.
    """
    shown = printable_lines(message)
    return shown if hint is None else f"{shown}\nhint: {printable_lines(hint)}"


def escaped_lines(text: str) -> str:
    """Text with the characters escaped that a terminal interprets, except line breaks and tabs."""
    if text.isprintable():
        return text
    return "".join(character if character in "\n\t" else _escaped(character) for character in text)


def json_line(value: object, *, only_ascii: bool = False) -> str:
    """A value as JSON on one line, without characters that a terminal interprets.

    only_ascii: escape letters beyond ASCII, too, for a stream whose encoding lacks them.
    """
    return printable_json(json.dumps(value, ensure_ascii=False, default=str), only_ascii=only_ascii)


def printable_json(text: str, *, only_ascii: bool = False) -> str:
    """Equivalent JSON without characters that a terminal interprets, except line breaks."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        json.dumps(character)[1:-1]
        if character != "\n" and (_is_escaped(character) or (only_ascii and ord(character) > 127))
        else character
        for character in text
    )


def _continuation(line: str) -> str:
    return printable(line) if not line or line.startswith(INDENT) else INDENT + printable(line)


def _is_escaped(character: str) -> bool:
    return unicodedata.category(character) in ESCAPED_CATEGORIES


def one_line(error: Exception) -> str:
    """Message of a library's error on one line, printable."""
    return printable(" ".join(str(error).split()))


def _escaped(character: str) -> str:
    if not _is_escaped(character):
        return character
    return character.encode("unicode_escape").decode("ascii")
