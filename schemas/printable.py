"""Text from outside (file names, labels, columns) as it may stand in a message or a log line."""

from __future__ import annotations

import json
import unicodedata

ESCAPED_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Unicode general categories that a terminal may act on or that nobody can see: controls, format
characters (text direction among them), surrogates, unassigned characters, line separators."""

INDENT = "  "


def printable(text: str) -> str:
    """Text on one line, with every character that a terminal could act on written as an escape.

    A line break becomes `\\n`, an escape sequence starts with `\\x1b`, so that neither can forge a
    log line. Letters of every alphabet stay as they are.
    """
    return text if text.isprintable() else "".join(map(_escaped, text))


def printable_lines(text: str) -> str:
    """A message of several lines, each printable, and all but the first indented.

    So text from outside that holds a line break can start no line of its own.
    """
    first, *others = text.split("\n")
    return "\n".join([printable(first), *map(_continuation, others)])


def message_text(message: str, hint: str | None = None) -> str:
    """A message as it is shown: printable lines, and the hint on a line that starts with "hint:".

    The one function that builds such a line, so that no text from outside can.
    """
    shown = printable_lines(message)
    return shown if hint is None else f"{shown}\nhint: {printable_lines(hint)}"


def escaped_lines(text: str) -> str:
    """Text with its line breaks and tabs; other characters that a terminal acts on are escaped."""
    if text.isprintable():
        return text
    return "".join(character if character in "\n\t" else _escaped(character) for character in text)


def json_line(value: object, *, only_ascii: bool = False) -> str:
    """A value as JSON on one line, in which a terminal has nothing to act on.

    only_ascii: write letters beyond ASCII as escapes too, for a stream that cannot show them.
    """
    return printable_json(json.dumps(value, ensure_ascii=False, default=str), only_ascii=only_ascii)


def printable_json(text: str, *, only_ascii: bool = False) -> str:
    """JSON with the same meaning, in which a terminal has nothing to act on but line breaks."""
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
    """An error of a library as it may stand in a message: printable, its lines joined."""
    return printable(" ".join(str(error).split()))


def _escaped(character: str) -> str:
    if not _is_escaped(character):
        return character
    return character.encode("unicode_escape").decode("ascii")
