"""Markdown tables, and escaping of untrusted text (labels, names, paths)."""

from __future__ import annotations

import re
from collections.abc import Sequence

from schemas.printable import printable

MAX_CELL_CHARACTERS = 300
"""Maximum length of an untrusted text on a page; a longer one is cut."""

_ACTIVE = re.compile(
    r"[\\`*\[\]|~$@&!]"  # emphasis, code, links, tables, entities, mathematics, mentions
    r"|<(?=[a-z/!?])"  # HTML
    r"|(?<![^\W_])_|_(?![^\W_])"  # an underscore inside a word is only that
    r"|:(?=//)|(?<=www)\."  # addresses become links by themselves
    r"|^>|^[#+-](?=[\s#]|$)|^\d+(?=[.)](?:\s|$))",
    re.IGNORECASE,
)


class Markdown(str):
    """Text that is Markdown already, so that `markdown_table` does not escape it."""

    __slots__ = ()


def markdown_text(text: str) -> str:
    """Untrusted text on one line, escaped so that every Markdown renderer shows it literally."""
    shown = printable(text)
    if len(shown) > MAX_CELL_CHARACTERS:
        shown = shown[: MAX_CELL_CHARACTERS - 1] + "…"
    return _ACTIVE.sub(_escaped, shown)


def markdown_code(text: str) -> str:
    """Untrusted text as inline code; not for a table, where `|` would end the cell."""
    shown = printable(text) or " "
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", shown)), default=0))
    pad = " " if "`" in (shown[0], shown[-1]) else ""
    return f"{fence}{pad}{shown}{pad}{fence}"


def markdown_table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table with text in the first column and numbers in all others, ending in a line break."""
    lines = [heading, [Markdown("---"), *[Markdown("---:")] * (len(heading) - 1)], *rows]
    return "".join(f"| {' | '.join(map(_cell, line))} |\n" for line in lines)


def score_text(value: float | None, digits: int = 3) -> str:
    """A score in [0, 1] with so many digits; a dash for None."""
    return "–" if value is None else f"{value:.{digits}f}"


def percent(share: float) -> str:
    """A share as a percentage, without trailing zeros."""
    return f"{100 * share:g} %"


def _cell(text: str) -> str:
    return text if isinstance(text, Markdown) else markdown_text(text)


def _escaped(match: re.Match[str]) -> str:
    active = match[0]
    return f"{active}\\" if active.isdecimal() else f"\\{active}"
